// The address of what is shown: scenario, design, path and step stand behind the #, so that a link can be sent.

/** @typedef {import("./types").Address} Address */

/** @returns {Address} */
export function nowhere() {
  return { scenario: "", toml: "", design: "", beside: "", path: "", at: 0 };
}

/**
 * @param {Address} address
 * @returns {Promise<string>}
 */
export async function write(address) {
  const words = new URLSearchParams();
  if (address.toml) words.set("text", await packed(address.toml));
  if (address.scenario) words.set("scenario", address.scenario);
  words.set("design", address.design);
  if (address.beside) words.set("beside", address.beside);
  words.set("path", address.path);
  words.set("at", String(address.at));
  return "#" + words.toString();
}

/**
 * @param {string} fragment
 * @returns {Promise<Address>}
 */
export async function read(fragment) {
  const words = new URLSearchParams(fragment.replace(/^#/, ""));
  const word = (/** @type {string} */ name) => words.get(name) ?? "";
  const text = word("text");
  return {
    scenario: word("scenario"), toml: text ? await unpacked(text) : "", design: word("design"),
    beside: word("beside"), path: word("path"), at: words.has("at") ? Number(word("at")) : Infinity,
  };
}

/** @param {string} text */
async function packed(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** @param {string} text */
async function unpacked(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).text();
}
