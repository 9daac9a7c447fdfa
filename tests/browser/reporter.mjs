/* One line for each test, what failed, and "N passed, N failed". */
export default async function* report(events) {
  let passed = 0;
  const failed = [];
  for await (const { type, data } of events) {
    /* What a test left running and that failed later: node's exit status counts it, too. */
    if (type === "test:diagnostic" && /^(Warning|Error)/.test(data.message)) {
      failed.push(data.message);
      yield `FAILED  ${data.message}\n`;
    }
    if (type !== "test:pass" && type !== "test:fail") {
      if (type === "test:stderr" || type === "test:stdout") yield data.message;
      continue;
    }
    if (type === "test:pass" && data.details?.type === "suite") continue;
    if (data.skip !== undefined) continue;
    const { name } = data;
    if (type === "test:pass") {
      passed++;
      yield `ok      ${name} (${Math.round(data.details.duration_ms)} ms)\n`;
    } else {
      failed.push(name);
      const { error } = data.details;
      yield `FAILED  ${name}\n${String(error.cause?.stack ?? error.cause ?? error.message).replace(/^/gm, "        ")}\n`;
    }
  }
  for (const name of failed) yield `failed: ${name}\n`;
  yield `${passed} passed, ${failed.length} failed\n`;
}
