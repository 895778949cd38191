"use strict";

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

document.querySelector("[data-authorize]").addEventListener("click", (event) => {
  event.preventDefault();
  document.querySelector("#swagger-ui .btn.authorize")?.click();
});
