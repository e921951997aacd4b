// The page: an editor, what the code says and draws, and the worker in which Python runs.
const byId = id => document.getElementById(id);
const [choice, run, stop, status, output] = ["examples", "run", "stop", "status", "output"].map(byId);

const editor = CodeMirror(byId("editor"), {
  mode: "python", lineNumbers: true, matchBrackets: true, lineWrapping: true, indentUnit: 4, viewportMargin: Infinity,
  extraKeys: {
    "Ctrl-Enter": start, "Cmd-Enter": start, Esc: halt,
    Tab: cm => cm.somethingSelected() ? cm.indentSelection("add") : cm.replaceSelection("    "),
  },
});

let worker, examples, waiting = false, loaded = false;

function renew() { // a worker that computes can be stopped by its end alone
  worker?.terminate();
  loaded = false;
  worker = new Worker("worker.js");
  worker.onmessage = ({ data }) => heard[data.kind]?.(data.content) ?? show(data.kind, data.content);
}

const heard = {
  ready() { loaded = true; busy(waiting, "Ready."); return true; },
  done(seconds) { waiting = false; busy(false, `Done in ${seconds.toFixed(1)} s.`); return true; },
  broken(error) { run.disabled = true; status.textContent = `Python cannot be loaded: ${error}`; return true; },
};

function busy(now, text) {
  waiting = now;
  run.disabled = now || !loaded;
  stop.hidden = !now;
  status.textContent = now ? "Running …" : text;
}

function show(kind, content) {
  const last = output.lastElementChild;
  const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 4;
  if (kind === "text" && last?.className === "text") {
    last.textContent += "\n" + content;
  } else {
    const block = document.createElement(kind === "html" ? "div" : "pre");
    block.className = kind;
    block[kind === "html" ? "innerHTML" : "textContent"] = content;
    output.append(block);
  }
  if (atEnd && kind !== "html") output.scrollTop = output.scrollHeight; // a picture is read from its top
}

function start() {
  if (waiting || !loaded) return;
  output.replaceChildren();
  busy(true);
  worker.postMessage(editor.getValue());
}

function halt() {
  if (!waiting) return;
  waiting = false;
  renew();
  busy(false, "Stopped; Python begins anew …");
}

function choose() {
  editor.setValue(examples[choice.value]);
  output.replaceChildren();
}

run.onclick = start;
stop.onclick = halt;
choice.onchange = choose;
renew();
fetch("examples.json").then(found => found.json()).then(found => {
  examples = found;
  choice.append(...Object.keys(examples).map(title => new Option(title)));
  choose();
});
