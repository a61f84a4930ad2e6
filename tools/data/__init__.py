"""Write the data files that the package ships."""
