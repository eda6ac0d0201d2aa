// Runs a JavaScript or TypeScript step in deno: started and waiting before its job comes.
//
// Frames come from stdin and go to stdout, as in framing.py; console output is frames too. Everything here runs in the
// user's own process, so nothing here guards anything: it makes the code comfortable and keeps deno out of its way.

const { stdin, stdout, inspect, exit, args, createHttpClient } = Deno;
const realFetch = globalThis.fetch;
const Address = URL;
const Asked = Request;
const formatAll = Deno[Deno.internal]?.inspectArgs;
const { parse, stringify } = JSON;
const { isArray } = Array;
const { keys, getPrototypeOf, getOwnPropertyNames, defineProperty, freeze } = Object;
const { apply, get: reflectGet } = Reflect;
const { isFinite: isFiniteNumber, isSafeInteger } = Number;
const { isView } = ArrayBuffer;
const Bytes = Uint8Array;
const View = DataView;
const uncurry = (method) => (self, ...rest) => apply(method, self, rest);
const urlOf = uncurry(Object.getOwnPropertyDescriptor(Request.prototype, "url").get);
const then = uncurry(Promise.prototype.then);
const isWellFormed = uncurry(String.prototype.isWellFormed);
const toExponential = uncurry(Number.prototype.toExponential);
const bigToText = uncurry(BigInt.prototype.toString);
const toISO = uncurry(Date.prototype.toISOString);
const getTime = uncurry(Date.prototype.getTime);
const replaceAll = uncurry(String.prototype.replaceAll);
const slice = uncurry(String.prototype.slice);
const exec = uncurry(RegExp.prototype.exec);
const set = uncurry(Bytes.prototype.set);
const subarray = uncurry(Bytes.prototype.subarray);
const setUint32 = uncurry(View.prototype.setUint32);
const writeSync = stdout.writeSync.bind(stdout);
const listen = globalThis.addEventListener.bind(globalThis);
const encoder = new TextEncoder();
const decoder = new TextDecoder();
const encode = encoder.encode.bind(encoder);
const decode = decoder.decode.bind(decoder);
const percentEncode = encodeURIComponent;
const Text = String;
const Big = BigInt;
const Failure = Error;
const Wrong = TypeError;
const Buffer = ArrayBuffer;

const MAX_DEPTH = 200;
const CHUNK = 32 * 1024;
const PIECE = 256 * 1024;
const MAX_PATH = 4096;
const STAYS = new Set(
  ("Object Function Array Number parseFloat parseInt Infinity NaN undefined Boolean String Symbol Date Promise RegExp " +
    "Error AggregateError EvalError RangeError ReferenceError SyntaxError TypeError URIError globalThis JSON Math Intl " +
    "ArrayBuffer SharedArrayBuffer Atomics Uint8Array Int8Array Uint16Array Int16Array Uint32Array Int32Array " +
    "BigUint64Array BigInt64Array Uint8ClampedArray Float16Array Float32Array Float64Array DataView Map BigInt Set " +
    "Iterator WeakMap WeakSet Proxy Reflect FinalizationRegistry WeakRef decodeURI decodeURIComponent encodeURI " +
    "encodeURIComponent escape unescape eval isFinite isNaN Temporal SuppressedError DisposableStack " +
    "AsyncDisposableStack queueMicrotask structuredClone atob btoa URL URLSearchParams URLPattern TextEncoder " +
    "TextDecoder crypto Crypto CryptoKey SubtleCrypto performance Performance Headers Request Response FormData Blob " +
    "File AbortController AbortSignal Event EventTarget CustomEvent DOMException ReadableStream WritableStream " +
    "TransformStream CompressionStream DecompressionStream TextEncoderStream TextDecoderStream").split(" "),
);

// --- frames ---

function write(header, payload = new Bytes(0)) {
  const head = encode(stringify(header));
  const frame = new Bytes(8 + head.length + payload.length);
  const view = new View(frame.buffer);
  setUint32(view, 0, head.length);
  setUint32(view, 4, payload.length);
  set(frame, head, 8);
  set(frame, payload, 8 + head.length);
  for (let sent = 0; sent < frame.length;) sent += writeSync(subarray(frame, sent));
}

function readSync(count) {
  const data = new Bytes(count);
  for (let have = 0; have < count;) {
    const got = stdin.readSync(data.subarray(have));
    if (got === null) exit(0);
    have += got;
  }
  return data;
}

function readFrameSync() {
  const view = new View(readSync(8).buffer);
  const header = parse(decode(readSync(view.getUint32(0))));
  return [header, readSync(view.getUint32(4))];
}

async function read(count) {
  const data = new Bytes(count);
  for (let have = 0; have < count;) {
    const got = await stdin.read(data.subarray(have));
    if (got === null) exit(0);
    have += got;
  }
  return data;
}

// Integers that a number can't hold exactly become BigInt.
const parseExactly = (text) =>
  /\d{16}/.test(text)
    ? parse(text, (_key, value, at) =>
      typeof value === "number" && !isSafeInteger(value) && /^-?\d+$/.test(at.source) ? Big(at.source) : value)
    : parse(text);

// --- results ---

class NotJson extends Failure {}

const SAYABLE = "objects, arrays, text, numbers, booleans or null";
const UNSAYABLE = [
  [Map, "a Map", "Object.fromEntries(map)"],
  [Set, "a Set", "[...set]"],
  [Promise, "a Promise", "what it resolves to: await it"],
  [RegExp, "a RegExp", "its source"],
  [Failure, "an Error", "its message"],
  [ArrayBuffer, "bytes", "text, for example base64, or an artifact"],
  [WeakMap, "a WeakMap", SAYABLE],
  [WeakSet, "a WeakSet", SAYABLE],
  [WeakRef, "a WeakRef", SAYABLE],
  [Number, "a Number object", "a plain number"],
  [String, "a String object", "plain text"],
  [Boolean, "a Boolean object", "true or false"],
];

function toJson(value, path, depth, around) {
  switch (typeof value) {
    case "boolean":
      return value ? "true" : "false";
    case "string":
      return textToJson(value, path);
    case "number":
      if (!isFiniteNumber(value)) {
        throw new NotJson(`${path} is ${value}, which JSON has no word for; return null or text instead`);
      }
      return value % 1 === 0 && !isSafeInteger(value) ? toExponential(value) : stringify(value);
    case "bigint":
      if (value > 9007199254740991n || value < -9007199254740991n) {
        throw new NotJson(
          `${path} is an integer beyond ±(2^53 - 1), which JSON readers round; return it as text`,
        );
      }
      return bigToText(value);
    case "undefined":
      return "null";
    case "object":
      return value === null ? "null" : objectToJson(value, path, depth, around);
    default:
      throw new NotJson(`${path} is a ${typeof value}, which JSON can't say; return ${SAYABLE}`);
  }
}

function textToJson(value, path) {
  if (!isWellFormed(value)) {
    throw new NotJson(`${path} is text with half a surrogate pair; encode it as valid Unicode`);
  }
  return stringify(value);
}

function objectToJson(value, path, depth, around) {
  if (depth >= MAX_DEPTH) {
    throw new NotJson(`${path} is nested deeper than ${MAX_DEPTH} levels; return a flatter value`);
  }
  for (let index = 0; index < around.length; index++) {
    if (around[index] === value) throw new NotJson(`${path} contains itself; return a value without cycles`);
  }
  if (value instanceof Date) {
    if (isNaN(getTime(value))) throw new NotJson(`${path} is an invalid date; return null instead`);
    return stringify(toISO(value));
  }
  for (let index = 0; index < UNSAYABLE.length; index++) {
    const entry = UNSAYABLE[index];
    if (value instanceof entry[0]) {
      throw new NotJson(`${path} is ${entry[1]}, which JSON can't say; return ${entry[2]}`);
    }
  }
  if (isView(value)) {
    throw new NotJson(`${path} is bytes; return text, for example base64, an array, or write an artifact`);
  }
  const inside = { __proto__: around, [depth]: value, length: depth + 1 };
  if (isArray(value)) {
    let text = "[";
    for (let index = 0; index < value.length; index++) {
      text += (index ? "," : "") + toJson(value[index], `${path}[${index}]`, depth + 1, inside);
    }
    return text + "]";
  }
  if (typeof value.toJSON === "function") return toJson(value.toJSON(), path, depth + 1, inside);
  let text = "{";
  const names = keys(value);
  for (let index = 0; index < names.length; index++) {
    const item = value[names[index]];
    if (item === undefined) continue;
    const key = textToJson(names[index], `a key of ${path}`);
    text += (text.length > 1 ? "," : "") + key + ":" +
      toJson(item, slice(path, 0, 400) + "." + slice(names[index], 0, 100), depth + 1, inside);
  }
  return text + "}";
}

// --- tools ---

class ToolError extends Failure {
  name = "ToolError";
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const waiting = new Map();
const setWaiting = waiting.set.bind(waiting);
const takeWaiting = (id) => {
  const found = waiting.get(id);
  waiting.delete(id);
  return found;
};
let calls = 0;
let reading = false;

const call = (tool, given) =>
  ask((id) =>
    write({ __proto__: null, kind: "call", id, tool }, encode(toJson(given === undefined ? {} : given, "arguments", 0, { __proto__: null, length: 0 })))
  );

function ask(send) {
  return new Promise((resolve, reject) => {
    const id = ++calls;
    send(id);
    setWaiting(id, [resolve, reject]);
    if (!reading) {
      reading = true;
      then(readReplies(), undefined, () => exit(1));
    }
  });
}

async function readReplies() {
  while (waiting.size > 0) {
    const view = new View((await read(8)).buffer);
    const header = parse(decode(await read(view.getUint32(0))));
    const value = parseExactly(decode(await read(view.getUint32(4))));
    const [resolve, reject] = takeWaiting(header.id);
    if (header.ok) resolve(value);
    else reject(new ToolError(value.code, value.message));
  }
  // In the same turn as the check: a call made because of the last reply must start reading again.
  reading = false;
}

// There is no file system: the supervisor writes the files that the code leaves.
function leave(path, content) {
  return ask((id) => {
    let bytes = null;
    if (typeof content === "string") bytes = encode(content);
    else if (isView(content)) bytes = new Bytes(content.buffer, content.byteOffset, content.byteLength);
    else if (content instanceof Buffer) bytes = new Bytes(content);
    if (typeof path !== "string" || path.length > MAX_PATH || bytes === null) {
      throw new Wrong(`artifacts.write takes a name of at most ${MAX_PATH} characters and text or bytes`);
    }
    for (let at = 0; at === 0 || at < bytes.length; at += PIECE) {
      const header = { __proto__: null, kind: "leave", id, path, first: at === 0, last: at + PIECE >= bytes.length };
      write(header, subarray(bytes, at, at + PIECE));
    }
  });
}

function callableNames(granted) {
  const names = { __proto__: null };
  const count = { __proto__: null };
  for (const full of granted) {
    const short = full.slice(full.lastIndexOf(".") + 1);
    count[short] = (count[short] ?? 0) + 1;
    names[short] = full;
  }
  for (const short of keys(count)) if (count[short] > 1) delete names[short];
  for (const full of granted) names[full] = full;
  return names;
}

// Showing them shows nothing; one that wasn't given is an error, not undefined within a header.
function secretsFor(values) {
  const given = { __proto__: null, ...values };
  return new Proxy(freeze({}), {
    get(_target, name) {
      if (typeof name !== "string" || name === "then" || name === "toJSON") return undefined;
      if (name in given) return given[name];
      throw new Failure(`the secret '${name}' is not given to this step; name it in the step: secrets: [${name}]`);
    },
    has: (_target, name) => name in given,
    ownKeys: () => [],
  });
}

function toolsFor(granted, prefix = "") {
  const names = callableNames(granted);
  const cache = { __proto__: null };
  return new Proxy(freeze({}), {
    get(_target, name) {
      // A promise must not take this for one of its kind.
      if (typeof name !== "string" || name === "then" || name === "toJSON") return undefined;
      return cache[name] ??= toolAt(granted, names, prefix + name);
    },
    has: (_target, name) => typeof name === "string" && prefix + name in names,
    ownKeys: () => [],
  });
}

function toolAt(granted, names, full) {
  if (full in names) return (given) => call(names[full], given);
  for (const name of granted) if (name.startsWith(full + ".")) return toolsFor(granted, full + ".");
  return refusalOf(full, granted);
}

function refusalOf(full, granted) {
  const refuse = async () => {
    const like = granted.filter((name) => name.endsWith("." + full));
    if (like.length > 0) {
      throw new ToolError(
        "tool_not_granted",
        `the short name '${full}' could be ${like.join(" or ")}; call it by its full name`,
      );
    }
    const have = [...granted].sort().join(", ") || "none";
    throw new ToolError(
      "tool_not_granted",
      `the tool '${full}' is not granted to this step; add it to the step's \`tools:\` (granted: ${have})`,
    );
  };
  return new Proxy(refuse, {
    get: (target, name) =>
      typeof name !== "string" || name in target ? reflectGet(target, name) : refusalOf(`${full}.${name}`, granted),
  });
}

// --- network ---

class NetworkError extends TypeError {
  name = "NetworkError";
  constructor(allowed, message, options) {
    super(message, options);
    this.code = allowed ? "network_failed" : "network_blocked";
  }
}

// The proxy tells why it didn't make a request: in its answer to a plain one, and when asked for one through a tunnel.
function fetchFor(network) {
  const target = (resource) => new Address(resource instanceof Asked ? urlOf(resource) : resource);
  if (!network) {
    return async function fetch(resource) {
      const host = target(resource).host || "HOST";
      throw new NetworkError(false, `network is none for this step; declare \`network: {allow: ["${host}"]}\``);
    };
  }
  const caCerts = network.authorities ? [network.authorities] : [];
  let client;
  let seen = 0;
  async function notMade(host, port) {
    const { not_made } = await (await realFetch(network.proxy)).json();
    const fresh = not_made.filter((one) => one.number > seen);
    if (fresh.length === 0) return undefined;
    seen = fresh.at(-1).number;
    return fresh.findLast((one) => one.host === host && one.port === port) ?? fresh.at(-1);
  }
  return async function fetch(resource, options) {
    let response;
    client ??= createHttpClient({ proxy: { url: network.proxy }, caCerts });
    try {
      response = await realFetch(resource, { ...options, client });
    } catch (error) {
      if (!(error instanceof TypeError) || error.message !== "fetch failed") throw error;
      const { hostname, port } = target(resource);
      const found = await notMade(hostname, +(port || 443));
      if (found) throw new NetworkError(found.allowed, found.message, { cause: error });
      throw new TypeError(`fetch failed: ${error.cause?.message}`, { cause: error });
    }
    if (response.headers.has("stepbox-refusal")) {
      throw new NetworkError(response.status >= 500, (await response.text()).trim());
    }
    return response;
  };
}

// --- console ---

let filename = "step";
let ownPlace = /^$/;
// Line 1 of the code has our own head before it.
const own = (text) =>
  replaceAll(text, /data:application\/typescript;charset=utf-8,[^\s:"]*(?::1:(\d+))?/g, (_all, column) =>
    column === undefined ? filename : `${filename}:1:${+column > HEAD.length ? +column - HEAD.length : 1}`);

function print(stream, given) {
  let text;
  try {
    text = formatAll ? formatAll(given) : given.map((item) => typeof item === "string" ? item : inspect(item)).join(" ");
  } catch {
    text = "[a value that can't be shown]";
  }
  const data = encode(own(indent + text) + "\n");
  for (let start = 0; start < data.length; start += CHUNK) {
    write({ __proto__: null, kind: "log", stream }, data.subarray(start, start + CHUNK));
  }
}

let indent = "";
const counts = { __proto__: null };
const timers = { __proto__: null };
const now = performance.now.bind(performance);
const out = (...given) => print("stdout", given);
const err = (...given) => print("stderr", given);
const console = {
  log: out,
  info: out,
  debug: out,
  dir: (value) => out(value),
  dirxml: out,
  table: (value) => out(value),
  warn: err,
  error: err,
  trace: (...given) => err("Trace:", ...given),
  assert: (holds, ...given) => holds || err("Assertion failed:", ...given),
  group: (...given) => {
    if (given.length > 0) out(...given);
    indent += "  ";
  },
  groupEnd: () => indent = indent.slice(2),
  count: (label = "default") => out(`${label}: ${counts[label] = (counts[label] ?? 0) + 1}`),
  countReset: (label = "default") => delete counts[label],
  time: (label = "default") => timers[label] = now(),
  timeLog: (label = "default", ...given) => out(`${label}: ${(now() - (timers[label] ?? now())).toFixed(3)}ms`, ...given),
  timeEnd: (label = "default") => {
    console.timeLog(label);
    delete timers[label];
  },
  clear: () => {},
};
console.groupCollapsed = console.group;

// --- the step ---

const HEAD = "export default async function (inputs: any, tools: any) {";
const TAIL = '\n; if (typeof main === "function") return await main(inputs);\n}';
const NO_IMPORTS = "a step can't import or export; it has the language itself, and its tools";

function describe(error) {
  try {
    return error instanceof NotJson ? { code: "result_not_json", message: error.message } : describeThrown(error);
  } catch {
    return { code: "exception", message: "the code threw a value that can't be shown" };
  }
}

function describeThrown(error) {
  const isError = error instanceof Failure;
  const message = isError ? Text(error.message) : typeof error === "string" ? error : inspect(error);
  if (isError && /^Unsupported scheme "refused"|^Import ".*" not a dep|--(no-npm|no-remote|allow-import|allow-read)/.test(message)) {
    return { code: "import_refused", message: NO_IMPORTS };
  }
  const stack = isError ? own(Text(error.stack)) : "";
  let code = error instanceof ToolError || error instanceof NetworkError ? Text(error.code) : "exception";
  if (error instanceof RangeError && /^Array buffer allocation failed/.test(message)) code = "out_of_memory";
  const place = exec(ownPlace, stack);
  const frames = stack.split("\n").filter((line) => !/^ +at /.test(line) || line.includes(filename + ":"));
  return {
    code,
    message: slice(code === "exception" && isError ? `${error.name}: ${message}` : message, 0, 10000),
    line: place ? +place[1] : null,
    traceback: slice(frames.join("\n"), 0, 20000) || null,
  };
}

// Deno's own text shows our head and tail around the code: of it only the message and the place are taken.
function describeSyntax(error, code) {
  const text = own(Text(error.message ?? error));
  const found = exec(ownPlace, text);
  const lines = code.split(/\r\n|\n/);
  let message = slice(replaceAll(text.split("\n")[0], / at \S+:\d+:\d+$/g, ""), 0, 10000);
  if (!/^\w*Error: /.test(message)) message = `SyntaxError: ${message}`;
  let fix = /'(import|export)'/.test(message) ? NO_IMPORTS : null;
  let line = found ? +found[1] : 1;
  let column = found ? +found[2] : 1;
  if (line > lines.length) {
    while (lines.length > 1 && lines[lines.length - 1].trim() === "") lines.pop();
    line = lines.length;
    column = lines[line - 1].trimEnd().length + 1;
    message = replaceAll(message, /, got .*$/g, "") + ", at the end of the code";
    fix = "look for a bracket or a quote that is not closed, or closed once too often, or for what the last line lacks";
  }
  const source = slice(lines[line - 1], 0, 500);
  const margin = `${line} | `;
  const mark = " ".repeat(margin.length + (column < 500 ? column : 500) - 1) + "^";
  const traceback = `${message}\n${margin}${source}\n${mark}\n    at ${filename}:${line}:${column}`;
  return { code: "syntax_error", message, line, fix, traceback };
}

let finished = false;

function finish(kind, payload) {
  if (finished) return;
  finished = true;
  write({ __proto__: null, kind }, payload);
  exit(kind === "result" ? 0 : 1);
}

const fail = (description) => finish("error", encode(stringify({ __proto__: null, ...description })));

function succeed(value, limit) {
  let payload;
  try {
    payload = encode(toJson(value, "result", 0, { __proto__: null, length: 0 }));
  } catch (error) {
    return fail(describe(error));
  }
  if (payload.length > limit) {
    return fail({
      code: "result_too_large",
      message: `the result is ${payload.length} bytes of JSON, the limit is ${limit}`,
      fix: "leave what is large by artifacts.write(name, content), and return its name",
    });
  }
  finish("result", payload);
}

function removeGlobals() {
  for (const name of getOwnPropertyNames(globalThis)) if (!STAYS.has(name)) delete globalThis[name];
  for (let holder = getPrototypeOf(globalThis); holder && holder !== Object.prototype; holder = getPrototypeOf(holder)) {
    if (holder !== EventTarget.prototype) delete holder.constructor;
  }
  delete AbortSignal.timeout;
}

function give(name, value) {
  defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}

const load = (source) => import("data:application/typescript;charset=utf-8," + percentEncode(source));

listen("unhandledrejection", (event) => {
  event.preventDefault();
  fail(describe(event.reason));
});
listen("error", (event) => {
  event.preventDefault();
  fail(describe(event.error));
});
listen("beforeunload", () => {
  if (!finished) {
    fail({ code: "never_settled", message: "the code waits for a promise that nothing will ever settle" });
  }
});

await load("export default async function (given: unknown) { return given as number; }");
removeGlobals();
give("console", console);
if (args[0] === "network") await realFetch("data:,");
write({ kind: "ready" });
const [job, payload] = readFrameSync();
const code = decode(payload.subarray(0, job.code));
const inputs = parseExactly(decode(payload.subarray(job.code, job.code + job.inputs)));
filename = job.filename;
give("secrets", secretsFor(parseExactly(decode(payload.subarray(job.code + job.inputs)))));
give("artifacts", freeze({ __proto__: null, write: leave }));
give("fetch", fetchFor(job.network));
ownPlace = new RegExp(filename.replace(/\W/g, "\\$&") + ":(\\d+):(\\d+)");
const source = HEAD + code + TAIL;
then(
  load(source),
  (module) =>
    then(
      module.default(inputs, toolsFor(job.tools)),
      (value) => succeed(value, job.result_limit),
      (error) => fail(describe(error)),
    ),
  (error) => fail(describeSyntax(error, code)),
);
