"use strict";

// Swagger UI has colours for both, and takes them by this class.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

const ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});

// Logging in ----------------------------------------------------------------------------------------------------------

const form = document.querySelector("#sign-in");
const signedIn = document.querySelector("#signed-in");
const trouble = document.querySelector("#trouble");

const RENEW_BEFORE_EXPIRY = 30; // seconds
const TRY_AGAIN_AFTER = 5; // seconds
let refreshToken = null; // ends with the page: it outlives the access token by far, so it is kept nowhere
let ownToken; // that the form or a renewal brought; of any other there is no refresh token
let renewal;
let shownToken;

async function call(method, path, { body, token } = {}) {
  const headers = { ...(body && { "Content-Type": "application/json" }), ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(`api/auth/${path}`, { method, headers, body: body && JSON.stringify(body) });
  const answer = response.status === 204 ? null : await response.json();
  if (response.ok) return answer;
  const errors = answer.errors?.map(({ pointer, detail }) => `${pointer.replace("/", "")}: ${detail}`);
  throw Object.assign(new Error(errors?.join(". ") ?? answer.detail), { status: response.status });
}

function authorize(tokens) {
  ownToken = tokens.access_token;
  refreshToken = tokens.refresh_token;
  const schema = ui.specSelectors.specJson().getIn(["components", "securitySchemes", "bearer"]).toJS();
  ui.authActions.authorizeWithPersistOption({ bearer: { name: "bearer", schema, value: tokens.access_token } });
  clearTimeout(renewal);
  renewal = setTimeout(renew, (tokens.expires_in - RENEW_BEFORE_EXPIRY) * 1000);
}

function forget() {
  clearTimeout(renewal);
  refreshToken = null;
  ui.authActions.logoutWithPersistOption(["bearer"]);
}

async function renew() {
  const given = refreshToken;
  try {
    const tokens = await call("POST", "refresh", { body: { refresh_token: given } });
    if (refreshToken === given) authorize(tokens); // or somebody has logged out meanwhile
  } catch (error) {
    if (refreshToken !== given) return;
    if (error.status !== 401) {
      renewal = setTimeout(renew, TRY_AGAIN_AFTER * 1000);
      return;
    }
    forget();
    trouble.textContent = "Your session has ended; log in again.";
  }
}

// Swagger UI knows the token whoever gave it: this form, its own dialog, or an earlier visit.
async function show() {
  const token = ui.authSelectors.authorized()?.getIn(["bearer", "value"]);
  if (token === shownToken) return;
  shownToken = token;
  if (token !== ownToken) {
    clearTimeout(renewal);
    refreshToken = null;
  }
  try {
    const user = token && (await call("GET", "me", { token }));
    if (token !== shownToken) return;
    form.hidden = Boolean(user);
    signedIn.hidden = !user;
    document.querySelector("#who").textContent = user?.email;
  } catch (error) {
    if (token !== shownToken) return;
    if (error.status === 401) forget();
    trouble.textContent = error.status === 401 ? "The token does not work any more; log in again." : error.message;
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, ...credentials } = Object.fromEntries(new FormData(form));
  form.inert = true;
  trouble.textContent = "";
  try {
    if (event.submitter?.value === "register") await call("POST", "register", { body: { name, ...credentials } });
    authorize(await call("POST", "login", { body: credentials }));
    form.reset();
  } catch (error) {
    trouble.textContent = error.message;
  } finally {
    form.inert = false;
  }
});

document.querySelector("#log-out").addEventListener("click", async () => {
  const body = { refresh_token: refreshToken };
  forget();
  if (body.refresh_token) await call("POST", "logout", { body });
});

ui.getStore().subscribe(show);

// Links into the list -------------------------------------------------------------------------------------------------

for (const link of document.querySelectorAll("[data-operation]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const [tag, operation] = link.dataset.operation.split(" ");
    ui.layoutActions.show(["operations-tag", tag], true);
    ui.layoutActions.show(["operations", tag, operation], true);
    history.replaceState(null, "", link.hash);
    requestAnimationFrame(() => document.getElementById(`operations-${tag}-${operation}`)?.scrollIntoView());
  });
}

document.querySelector("[data-routes]").addEventListener("click", (event) => {
  event.preventDefault();
  document.querySelector("#swagger-ui .scheme-container")?.scrollIntoView();
});

document.querySelector("[data-authorize]").addEventListener("click", (event) => {
  event.preventDefault();
  document.querySelector("#swagger-ui .btn.authorize")?.click();
});
