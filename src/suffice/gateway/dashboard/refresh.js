// Fetches the page again and puts the new body in the old one's place; says so when it cannot.
setInterval(async () => {
  if (document.hidden) return;
  try {
    const reply = await fetch(location.href, { cache: "no-store" });
    if (!reply.ok) throw new Error(reply.status);
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    const place = scrollY;
    document.body.replaceChildren(...page.body.children);
    delete document.body.dataset.stale;
    scrollTo(0, place);
  } catch {
    document.body.dataset.stale = "";
  }
}, 10000);
