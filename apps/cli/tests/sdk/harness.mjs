// What the scripts in this folder share: arguments, and running tests.
//
// A script is started as `SCRIPT BASE_URL API_KEY MODEL`, prints a line per test and exits with 1 if
// one failed. BASE_URL ends in `/v1`.

export const [baseURL, apiKey, model] = process.argv.slice(2);
export const host = baseURL.replace(/\/v1$/, "");
export const question = "Tell me a story about a fox.";

export async function main(tests) {
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}\n${error.stack}`);
    }
  }
  const count = Object.keys(tests).length;
  console.log(`${count - failed} of ${count} passed`);
  process.exit(failed === 0 ? 0 : 1);
}
