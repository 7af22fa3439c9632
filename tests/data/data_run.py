"""The stage `data` on a few files of its own; also a program that makes such a run and dies on the way."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from zhen.data import engine, stage
from zhen.data.settings import (
    ContaminationSettings,
    DuplicatesSettings,
    ExtractSettings,
    PrivacySettings,
    RulesSettings,
    Source,
)
from zhen.formats.files import remove_leftovers
from zhen.formats.stage import Context

EN = (
    "The {0} of the old town is known for its bread, and people come from the hills to buy it.",
    "In winter the river freezes, and the {0} walks over the ice to the market on the other side.",
    "Nobody remembers who built the {0}'s house, but its walls are thick and its windows are small.",
    "On the first day of spring the children bring flowers to the {0}, who gives them apples in return.",
)
ZH = (
    "老城里的{0}因为面包而出名，山里的人都到这里来买。",
    "冬天河水结冰，{0}从冰上走到对岸的集市去。",
    "没有人记得{0}的房子是谁盖的，但是墙很厚，窗户很小。",
    "春天的第一天，孩子们给{0}送花，{0}回赠他们苹果。",
)

NOTICE = "This site leaves a small file on your computer, so that it knows you again when you come back to the market."


def english(name: str) -> str:
    """A text of about 350 characters that every rule keeps."""
    return "\n".join(line.format(name) for line in EN)


def chinese(name: str) -> str:
    """A text of about 100 characters that every rule keeps."""
    return "\n".join(line.format(name) for line in ZH)


def page(text: str, encoding: str = "utf-8") -> bytes:
    """An HTML page around the paragraphs of `text`."""
    body = "".join(f"<p>{line}</p>" for line in text.split("\n"))
    html = f"<html><head><title>t</title></head><body><nav>Home</nav><article>{body}</article></body></html>"
    return html.encode(encoding)


def warc_record(kind: str, url: str, block: bytes, content_type: str) -> bytes:
    """A WARC record."""
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Type: {content_type}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(block) + block + b"\r\n\r\n"


def response(url: str, html: bytes, headers: str = "Content-Type: text/html", status: int = 200) -> bytes:
    """A WARC response record with an HTTP message."""
    http = f"HTTP/1.1 {status} OK\r\n{headers}\r\n\r\n".encode() + html
    return warc_record("response", url, http, "application/http; msgtype=response")


def pack(records: Iterable[bytes]) -> list[bytes]:
    """Each record as a gzip member, as WARC files are packed."""
    return [gzip.compress(record, mtime=0) for record in records]


def make_sources(folder: Path) -> tuple[Source, ...]:
    """Three sources, three units: a crawl, JSON lines, text files; copies and a notice of many texts among them."""
    crawl = [response(f"http://a.example/{name}", page(english(name))) for name in ("baker", "miller", "smith")]
    crawl += [response(f"http://a.example/{name}", page(chinese(name))) for name in ("面包师", "铁匠")]
    (folder / "crawl").mkdir(parents=True)
    (folder / "crawl" / "a.warc.gz").write_bytes(b"".join(pack(crawl)))
    texts = [english("judge"), chinese("医生"), english("baker"), "Too short.", "Das ist ein deutscher Satz. " * 20]
    texts.append(english("miller") + "\nThey all stay until the evening.")
    lines = [json.dumps({"text": text, "url": f"http://b.example/{index}"}) for index, text in enumerate(texts)]
    (folder / "b.jsonl").write_text("\n".join([*lines, "{ not json", ""]), encoding="utf-8")
    (folder / "c").mkdir()
    for index in range(6):
        name = f"weaver number {index}"
        text = f"{english(name)}\n\n{NOTICE}\n\n{english('old ' + name)}"
        (folder / "c" / f"{index}.txt").write_text(text, encoding="utf-8")
        (folder / "c" / f"zh-{index}.txt").write_text(chinese(f"第{index}位织工"), encoding="gb18030")
    song = "Where the bridge is, the people of the hills sing in the evening."
    (folder / "c" / "9.txt").write_text(f"{NOTICE}\n{song}", encoding="utf-8")
    return (
        Source(name="web", path=str(folder / "crawl"), license="CC0-1.0"),
        Source(name="lines", path=str(folder / "b.jsonl")),
        Source(name="files", path=str(folder / "c" / "*.txt")),
    )


NOTHING = ContaminationSettings()


class Line:
    """A live line that counts its updates and may end the process at one of them."""

    def __init__(self, die_at: int | None = None) -> None:
        self.events = 0
        self.die_at = die_at

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        """Count; die where that is asked for."""
        self.events += 1
        if self.events == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self, text: str) -> None:
        """Nothing."""


def run(
    sources: tuple[Source, ...],
    folder: Path,
    *,
    workers: int = 2,
    ray: str | None = None,
    line: Line | None = None,
    rules: RulesSettings | None = None,
    duplicates: DuplicatesSettings | None = None,
    sampleweb: Path | None = None,
    contamination: ContaminationSettings = NOTHING,
) -> dict[str, Context]:
    """All three parts, each on its folder below `folder`; parts that are done (file `done`) are left alone."""
    line = line or Line()
    scanned = {"sampleweb/crawl": sampleweb} if sampleweb else {}
    sections = {
        "scan": {
            "data.sources": sources,
            "data.extract": ExtractSettings(),
            "data.contamination.against": contamination.against,
            "data.contamination.columns": contamination.columns,
        },
        "decide": {
            "data.rules": rules or RulesSettings(),
            "data.duplicates": duplicates or DuplicatesSettings(paragraph_documents=5),
            "data.contamination": contamination,
        },
        "write": {"data.privacy": PrivacySettings(), "data.held_out": 0.1, "data.held_out_bytes": 300, "run.seed": 1},
    }
    after = {
        "scan": scanned,
        "decide": {"data.scan": folder / "scan"},
        "write": {"data.scan": folder / "scan", "data.decide": folder / "decide"},
    }
    contexts = {}
    for part, function in (("scan", stage.scan), ("decide", stage.decide), ("write", stage.write)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder / part)
        context = Context(folder / part, sections[part], after[part], line, lambda: False, workers, ray)
        contexts[part] = context
        if not (folder / f"{part}.done").exists():
            function(context)
            (folder / f"{part}.done").touch()
    return contexts


def results(folder: Path) -> dict[str, bytes]:
    """Every file of the run, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def linger(job: str) -> str:
    """A job that says who does it and then never ends (but for one that ends at once)."""
    folder, name = json.loads(job)
    Path(folder, f"{name}-{os.getpid()}").touch()
    while name != "first":
        Path(folder, "alive").write_bytes(b"x")
    return name


def double(job: str) -> str:
    """A job for the tests of the engine."""
    return str(2 * int(job))


def die_while_workers_work(folder: str) -> None:
    """Begin jobs that never end; die once each worker has begun one."""
    jobs = [json.dumps([folder, name]) for name in ("first", "second", "third")]
    for _ in engine.map_units(linger, jobs, workers=2):
        while len(list(Path(folder).glob("*-*"))) < 3:
            pass
        os.kill(os.getpid(), signal.SIGKILL)


def with_cluster(asked: dict) -> int:
    """Start a Ray cluster of two cores, run this program again with its address; the cluster ends with this one."""
    import ray

    head = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    command = [
        sys.executable,
        __file__,
        json.dumps({**asked, "cluster": False, "ray": head.address_info["gcs_address"]}),
    ]
    status = subprocess.run(command, check=False).returncode
    ray.shutdown()
    return status


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    if asked.get("cluster"):
        sys.exit(with_cluster(asked))
    if "linger" in asked:
        import data_run  # workers look for the job by the name of its module

        data_run.die_while_workers_work(asked["linger"])
    sources = tuple(Source(**source) for source in asked["sources"])
    run(sources, Path(asked["folder"]), ray=asked.get("ray"), line=Line(asked.get("die_at")))
