// The page: an editor, what the code says and draws, and the worker in which Python runs.
const byId = id => document.getElementById(id);
const [choice, run, stop, status, output] = ["examples", "run", "stop", "status", "output"].map(byId);

const editor = CodeMirror(byId("editor"), {
  mode: "python", lineNumbers: true, matchBrackets: true, lineWrapping: true, indentUnit: 4, viewportMargin: Infinity,
  extraKeys: { Tab: cm => cm.somethingSelected() ? cm.indentSelection("add") : cm.replaceSelection("    ") },
});

let worker, examples = {}, waiting = false, loaded = false;

function renew() { // a worker that computes can be stopped by its end alone
  worker?.terminate();
  loaded = false;
  try {
    worker = new Worker("worker.js");
  } catch { // a page that is a file may start none
    heard.broken("open the page from a server: python -m http.server");
    return;
  }
  worker.onmessage = ({ data }) => data.kind in heard ? heard[data.kind](data.content) : show(data.kind, data.content);
  worker.onerror = error => heard.broken(error.message);
}

const heard = {
  ready() { loaded = true; busy(waiting, "Ready."); },
  done(seconds) { busy(false, `Done in ${seconds.toFixed(1)} s.`); },
  ended(error) { show("error", error); halt("Python has ended; it begins anew …"); },
  broken(error) { waiting = loaded = false; busy(false, `Python cannot be loaded: ${error}`); },
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
    last.append(content);
  } else {
    const block = document.createElement(kind === "html" ? "div" : "pre");
    block.className = kind;
    if (kind === "html") block.innerHTML = content; else block.append(content);
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

function halt(text = "Stopped; Python begins anew …") {
  if (!waiting) return;
  renew();
  busy(false, text);
}

function choose() {
  halt();
  editor.setValue(examples[choice.value]);
  output.replaceChildren();
}

run.onclick = start;
stop.onclick = () => halt();
choice.onchange = choose;
addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); start(); }
  if (event.key === "Escape") halt();
}, true); // before the editor
renew();
fetch("examples.json").then(found => found.json()).then(found => {
  examples = found;
  choice.append(...Object.keys(examples).map(title => new Option(title)));
  choose();
}).catch(() => {}); // then there is no worker either, which says so
