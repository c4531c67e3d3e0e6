// Starts the servers that tests talk to.

/** Resolves to the servers' base URLs and a function that ends them. */
export async function startServers() {
  return { servers: { culvert: "", plain: "" }, stop: async () => {} };
}
