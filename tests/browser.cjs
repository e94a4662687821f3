// Pages in a real browser: `node browser.cjs CHROMIUM FOLDER` prints a line for each flaw of each *.html, and nothing else.
//
// In light and dark, on a phone, a tablet and a screen: axe's violations, whatever the page asks the network for, whatever
// is wider than its page, which would have to be scrolled sideways, and words of a chart that lie upon one another.
const fs = require("fs");
const path = require("path");
const { chromium } = require("playwright-core");

const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [320, 390, 640, 820, 1024, 1088, 1280, 1600];
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];

async function main(executablePath, folder) {
  const browser = await chromium.launch({ executablePath, args: ARGUMENTS });
  for (const name of fs.readdirSync(folder).filter((each) => each.endsWith(".html")).sort()) {
    for (const colorScheme of ["light", "dark"]) {
      // The page's own policy allows no script, axe included.
      const context = await browser.newContext({ colorScheme, bypassCSP: true });
      const page = await context.newPage();
      const tell = (what) => console.log(`${name}, ${colorScheme}: ${what}`);
      const own = `file://${path.resolve(folder, name)}`;
      page.on("request", (request) => request.url() === own || tell(`asks for ${request.url()}`));
      await page.goto(own);
      await page.evaluate(AXE);
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 900 });
        const { violations } = await page.evaluate(() => axe.run(document));
        violations.forEach((each) => tell(`${width} pixels wide: ${each.id}: ${each.nodes[0].html}`));
        const wide = await page.evaluate(() => {
          const right = document.querySelector("main").getBoundingClientRect().right;
          const tables = [...document.querySelectorAll("table, figure, dl")];
          return tables.filter((each) => each.getBoundingClientRect().right > right + 1).map((each) => each.className);
        });
        const crossed = await page.evaluate(() => {
          const upon = (a, b) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
          return [...document.querySelectorAll("svg")].flatMap((svg) => {
            const texts = [...svg.querySelectorAll("text")].map((each) => [each.textContent, each.getBoundingClientRect()]);
            return texts.flatMap(([word, a], at) =>
              texts.slice(at + 1).filter(([, b]) => upon(a, b)).map(([other]) => `"${word}" and "${other}"`));
          });
        });
        crossed.forEach((each) => tell(`${width} pixels wide: ${each} lie upon one another`));
        wide.forEach((each) => tell(`${width} pixels wide: ${each} is wider than the page`));
      }
      await context.close();
    }
  }
  await browser.close();
}

main(process.argv[2], process.argv[3]).catch((error) => {
  console.error(error);
  process.exit(1);
});
