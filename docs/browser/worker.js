// Python, in a thread of its own, so that the page goes on while it computes.
const EVERY = 50; // milliseconds: what is printed meanwhile goes to the page at once
const MOST = 200_000; // characters that a run may print

let printed = "", told = 0, length = 0, decoder = new TextDecoder();

self.say = (kind, content) => { tell(); postMessage({ kind, content }); };

function tell() {
  if (printed) postMessage({ kind: "text", content: printed });
  printed = "";
  told = performance.now();
}

function write(bytes) {
  const text = decoder.decode(bytes, { stream: true });
  if (length < MOST) printed += text;
  if (length < MOST && length + text.length >= MOST) printed += `\n… (what follows the first ${MOST} characters is left out)`;
  length += text.length;
  if (performance.now() - told > EVERY) tell();
  return bytes.length;
}

async function start() {
  importScripts("pyodide.js", "viz-global.js");
  const [python, graphviz, ...archives] = await Promise.all([
    loadPyodide(),
    Viz.instance(),
    ...["numpy.zip", "library.zip"].map(async name => (await fetch(name)).arrayBuffer()),
  ]);
  self.graphviz = graphviz; // viz.draw asks for it
  python.setStdout({ write });
  python.setStderr({ write });
  const extractDir = python.runPython("import sysconfig; sysconfig.get_paths()['purelib']");
  python.FS.mkdirTree(extractDir);
  for (const archive of archives) python.unpackArchive(archive, "zip", { extractDir });
  python.runPython(`import sys; sys.path.append(${JSON.stringify(extractDir)})`);
  python.runPython(await (await fetch("running.py")).text());
  python.runPython("import numpy, tinygrad_rnn, viz");
  say("ready");
  return python;
}

const started = start().catch(error => say("broken", String(error)));

onmessage = async message => {
  const python = await started;
  if (!python) return;
  const begun = performance.now();
  length = 0;
  try {
    python.globals.get("run")(message.data);
    say("done", (performance.now() - begun) / 1000);
  } catch (error) { // not one of Python's own, which `run` has told: Python has ended
    say("ended", String(error));
  }
};
