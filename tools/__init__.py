"""What only authors run: training, fitting and building what the package ships."""
