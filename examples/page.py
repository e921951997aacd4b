"""A page of pictures, for gallery.py and lecture.py."""

import html

from pathlib import Path

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>TITLE</title>
<meta name="viewport" content="width=device-width"><style>:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem}
figure{margin:1.5rem 0 2.5rem;overflow-x:auto}figcaption{color:#6b7280}img{max-width:100%;height:auto}
.told{display:grid;grid-template-columns:18rem minmax(0,1fr);gap:2rem;align-items:center}
.told p{margin:.4rem 0}@media (max-width:50rem){.told{grid-template-columns:1fr;gap:.5rem}}
iframe{width:100%;height:36rem;border:1px solid #6b728055;border-radius:8px}
@media (prefers-color-scheme:dark){body{background:#0f172a;color:#e2e8f0}figcaption{color:#a3aec0}}
</style><h1>TITLE</h1>"""


def write(folder, title, pictures, texts=None):
    """index.html of (section, caption, file name, drawing, or None for a file that is there).

    texts: what stands beside a picture, by the name of its file
    """
    folder, sections = Path(folder), {}
    folder.mkdir(parents=True, exist_ok=True)
    for section, caption, name, drawing in pictures:
        if drawing is not None:
            drawing.save(folder / name, **({"play": True} if name.endswith("film.svg") else {}))
        shown = f'<iframe src="{name}"></iframe>' if name.endswith("html") else f'<img src="{name}" alt="{caption}">'
        told = f"<b>{caption}</b><p>{texts[name]}</p>" if texts else caption
        figure = f"<figure{' class=told' * bool(texts)}><figcaption>{told}</figcaption><div>{shown}</div></figure>"
        sections.setdefault(section, []).append(figure)
    body = "".join(f"<h2>{html.escape(section)}</h2>{''.join(shown)}" for section, shown in sections.items())
    (folder / "index.html").write_text(PAGE.replace("TITLE", title) + body + "</html>", encoding="utf-8")
    print(f"wrote {folder}/index.html and {sum(map(len, sections.values()))} pictures")
