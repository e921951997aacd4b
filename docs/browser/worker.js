// Python, in a thread of its own, so that the page goes on while it computes.
importScripts("pyodide.js", "viz-global.js");

self.say = (kind, content) => postMessage({ kind, content });

async function start() {
  const [python, graphviz, ...archives] = await Promise.all([
    loadPyodide({ stdout: text => say("text", text), stderr: text => say("text", text) }),
    Viz.instance(),
    ...["numpy.zip", "library.zip"].map(async name => (await fetch(name)).arrayBuffer()),
  ]);
  self.graphviz = graphviz; // viz.draw asks for it
  for (const archive of archives) python.unpackArchive(archive, "zip");
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
  python.globals.get("run")(message.data);
  say("done", (performance.now() - begun) / 1000);
};
