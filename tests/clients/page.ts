// The docs page in a browser, as somebody uses it who has just found it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { type Browser, type Page, chromium } from "playwright-core";

const API = process.env["API"]!;
const SCREENSHOTS = process.env["SCREENSHOTS"]; // a folder, when they are to be written
const PASSWORD = "seven green kettles";

let browser: Browser;

before(async () => {
  const quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
  const alone = ["--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: process.env["CHROMIUM"]!, args: [...quiet, ...alone] });
});

after(() => browser.close());

/** Opens the page in a new browser profile and does something there. The console says what is expected, and no more. */
async function visit(use: (page: Page) => Promise<void>, expected: string[] = []) {
  const context = await browser.newContext({ viewport: { width: 1120, height: 720 } });
  const page = await context.newPage();
  const wrong: string[] = []; // a violated Content-Security-Policy is an error on the console
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => request.url().startsWith(`${API}/`) || wrong.push(request.url()));
  page.on("requestfailed", (request) => wrong.push(`failed: ${request.url()}`));
  await page.goto(`${API}/docs`);
  await page.locator(".opblock").first().waitFor(); // what is still on its way when a page is left counts as failed
  await use(page);
  assert.deepEqual(wrong, expected);
  await context.close();
}

async function register(page: Page) {
  const email = `${randomUUID()}@example.org`;
  await page.getByLabel("E-mail", { exact: true }).fill(email);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByLabel("Name", { exact: true }).fill("Ada Brown");
  await page.getByRole("button", { name: "Register and log in" }).click();
  await page.getByText(`Signed in as ${email}`).waitFor();
  return { email, password: PASSWORD };
}

async function open(page: Page, operation: string) {
  const block = page.locator(`[id$="-${operation}"]`);
  await block.locator(".opblock-summary-control").click();
  await block.locator(".responses-table").first().waitFor();
  return block;
}

async function execute(page: Page, operation: string) {
  const block = await open(page, operation);
  await block.getByRole("button", { name: "Execute" }).click();
  const answer = block.locator(".live-responses-table tbody > .response");
  const status = (await answer.locator(".response-col_status").innerText()).split("\n")[0];
  return { block, status, text: await answer.locator(".highlight-code code").first().innerText() };
}

const overflow = (page: Page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

/** What differs from one run to the next is made the same; `from` is where the picture begins. */
async function screenshot(page: Page, name: string, from = "body") {
  if (!SCREENSHOTS) return;
  await page.evaluate((api) => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode;
      text.nodeValue = text.nodeValue!
        .replaceAll(api, "http://127.0.0.1:3000")
        .replace(/[\w-]{36}@example\.org/, "ada@example.org")
        .replace(/eyJ[\w-]+\.[\w-]+\.[\w-]+/, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")
        .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/, "2026-03-02T09:30:00.000000Z")
        .replace(/^\d+ ms$/, "12 ms");
    }
  }, API);
  await page.locator(from).evaluate((top) => scrollBy(0, Math.round(top.getBoundingClientRect().top)));
  await page.mouse.move(0, 0); // nothing is pointed at
  await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, animations: "disabled", caret: "hide" });
}

test("a reader registers in the page, and every request carries the token, also after a reload", async () => {
  await visit(async (page) => {
    const { email } = await register(page);
    await screenshot(page, "docs");
    const created = await execute(page, "createPatient");
    assert.equal(created.status, "201", created.text);
    await screenshot(page, "docs-request", "[id$=-createPatient] .responses-wrapper");

    await page.reload();
    await page.getByText(`Signed in as ${email}`).waitFor();
    const listed = await execute(page, "listPatients");
    assert.equal(listed.status, "200", listed.text);
    assert.equal(JSON.parse(listed.text).items[0].name, "Maria Silva");

    await page.getByRole("button", { name: "Log out", exact: true }).click();
    await page.getByRole("button", { name: "Log in", exact: true }).waitFor();
    assert.equal(await page.evaluate(() => localStorage.getItem("authorized")), "{}");
  });
});

test("a token that is pasted into Authorize does the same", async () => {
  await visit(async (page) => {
    const { email, password } = await register(page);
    const body = { email, password };
    const answer = await page.request.post(`${API}/api/auth/login`, { data: body });
    await page.getByRole("button", { name: "Log out", exact: true }).click();
    await page.getByRole("link", { name: "Authorize" }).click();
    await page.locator(".auth-container input").fill((await answer.json()).access_token);
    await page.locator(".auth-btn-wrapper .authorize").click();
    await page.locator(".auth-btn-wrapper .btn-done").click();
    await page.getByText(`Signed in as ${email}`).waitFor();
    assert.equal((await execute(page, "readMe")).status, "200");
  });
});

test("the token is renewed before it expires", async () => {
  await visit(async (page) => {
    await page.clock.install();
    await register(page);
    const token = () => page.evaluate(() => JSON.parse(localStorage.getItem("authorized")!).bearer.value as string);
    const first = await token();
    const renewed = page.waitForResponse(`${API}/api/auth/refresh`);
    await page.clock.fastForward("14:40");
    assert.equal((await renewed).status(), 200);
    await page.waitForFunction((old) => !localStorage.getItem("authorized")!.includes(old), first);
    assert.equal((await execute(page, "readMe")).status, "200");
  });
});

test("who logs out in Swagger's own dialog stays logged out", async () => {
  await visit(async (page) => {
    await page.clock.install();
    const { email } = await register(page);
    await page.getByRole("link", { name: "Authorize" }).click();
    await page.locator(".auth-btn-wrapper button").filter({ hasText: "Logout" }).click();
    await page.locator(".auth-btn-wrapper .btn-done").click();
    await page.getByRole("button", { name: "Log in", exact: true }).waitFor();
    await page.clock.fastForward("14:40");
    await page.waitForTimeout(500);
    assert.equal(await page.evaluate(() => localStorage.getItem("authorized")), "{}");
    assert.equal(await page.getByText(`Signed in as ${email}`).isVisible(), false);
  });
});

test("what the API says against a login is shown", async () => {
  const unauthorized = "Failed to load resource: the server responded with a status of 401 (Unauthorized)";
  await visit(async (page) => {
    await page.getByLabel("E-mail", { exact: true }).fill("nobody@example.org");
    await page.getByLabel("Password", { exact: true }).fill("wrong");
    await page.getByRole("button", { name: "Log in", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "The e-mail address or the password is not right." }).waitFor();
  }, [unauthorized]);
});

test("nothing is wider than the screen of a desktop or a phone, whatever is open", async () => {
  await visit(async (page) => {
    await register(page);
    await page.emulateMedia({ colorScheme: "dark" });
    await screenshot(page, "docs-dark", ".scheme-container");
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 390, height: 844 });
    await screenshot(page, "docs-phone");
    for (const operation of ["listAuditEvents", "changeDoctor"]) await open(page, operation);
    assert.equal((await execute(page, "createDoctor")).status, "201");
    for (const state of ["operations", "dialog"]) {
      if (state === "dialog") await page.locator(".btn.authorize").click();
      for (const width of [1280, 390, 320]) {
        await page.setViewportSize({ width, height: 844 });
        assert.equal(await overflow(page), 0, `${state}, ${width} pixels`);
      }
    }
  });
});

test("every kind of problem that the page names is explained one click away", async () => {
  await visit(async (page) => {
    const links = page.locator(".info a[href*='problems/']");
    await links.first().waitFor();
    const addresses = await links.evaluateAll((all) => all.map((link) => (link as HTMLAnchorElement).href));
    assert.ok(addresses.length > 15);
    await page.setViewportSize({ width: 320, height: 844 });
    for (const address of addresses) {
      await page.goto(address);
      await page.getByRole("heading", { name: "What to do" }).waitFor();
      assert.equal(await overflow(page), 0);
    }
  });
});
