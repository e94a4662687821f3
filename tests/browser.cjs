// `node browser.cjs CHROMIUM FOLDER` opens every *.html of the folder in Chromium and prints one line per fault.
//
// Faults: axe violations, network requests, elements wider than the page, and overlapping text in a chart. Every page is
// checked in light and dark mode, at the widths of phones, tablets and screens.
const fs = require("fs");
const path = require("path");
const { chromium } = require("playwright-core");

const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const AXE_WIDTHS = [320, 1280];
const WIDTHS = [320, 390, 640, 820, 1024, 1088, 1280, 1600];
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];

async function main(executablePath, folder) {
  const browser = await chromium.launch({ executablePath, args: ARGUMENTS });
  for (const name of fs.readdirSync(folder).filter((name) => name.endsWith(".html")).sort()) {
    for (const colorScheme of ["light", "dark"]) {
      // The page's Content-Security-Policy would block axe.
      const context = await browser.newContext({ colorScheme, bypassCSP: true });
      const page = await context.newPage();
      const report = (fault) => console.log(`${name}, ${colorScheme}: ${fault}`);
      const url = `file://${path.resolve(folder, name)}`;
      page.on("request", (request) => request.url() === url || report(`requests ${request.url()}`));
      await page.goto(url);
      await page.evaluate(AXE);
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 900 });
        if (AXE_WIDTHS.includes(width)) {
          const { violations } = await page.evaluate(() => axe.run(document));
          violations.forEach(({ id, nodes }) => report(`${width} pixels wide: ${id}: ${nodes[0].html}`));
        }
        const wide = await page.evaluate(() => {
          const right = document.querySelector("main").getBoundingClientRect().right;
          const tables = [...document.querySelectorAll("table, figure, dl")];
          return tables.filter((table) => table.getBoundingClientRect().right > right + 1).map((table) => table.className);
        });
        const overlaps = await page.evaluate(() => {
          const overlap = (a, b) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
          return [...document.querySelectorAll("svg")].flatMap((svg) => {
            const texts = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
            return texts.flatMap(([first, a], index) =>
              texts.slice(index + 1).filter(([, b]) => overlap(a, b)).map(([second]) => `"${first}" and "${second}"`));
          });
        });
        overlaps.forEach((texts) => report(`${width} pixels wide: ${texts} overlap`));
        wide.forEach((element) => report(`${width} pixels wide: ${element} is wider than the page`));
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
