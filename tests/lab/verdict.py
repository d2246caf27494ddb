"""What people saw, judged: from their own lines, and from the history of the wiki that serves."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from tests.lab.people import ask

Line = dict[str, Any]


@dataclass
class Verdict:
    """Counts are of requests; the lists hold at most ten examples each."""

    reader_requests: int
    reader_errors: int
    reader_error_examples: list[str]
    saved: int
    saw_notice: int
    editor_errors_other_than_notice: int
    editor_error_examples: list[str]
    # Acknowledged edits and uploads that the serving wiki does not have / has more than once.
    lost: list[str]
    duplicated: list[str]
    # In the page's history, but a later revision no longer has the line.
    missing_from_text: list[str]
    # No acknowledgement reached the editor, yet the wiki has it. Not an error, but worth knowing.
    saved_without_acknowledgement: list[str]
    # Uploads whose page is there and whose file the serving node does not have.
    uploads_without_file: list[str]
    # Per POP: the longest time from one acknowledged save to the next, of whoever saved there. It
    # includes the second save's own duration and a saver's pause: see `other_gap_ms`.
    write_unavailable_ms: dict[str, float]
    # Per POP: the next longest such time of the same run: what this machine makes of the figure above without a notice.
    other_gap_ms: dict[str, float]
    # Per POP: from the first to the last refusal with the notice, of forms and saves.
    notice_ms: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _examples(lines: list[Line]) -> list[str]:
    return [f"{x['kind']} {x['who']} at {x['sent']:.3f}: {x['problem']}" for x in lines[:10]]


def _gaps(lines: list[Line], pop: str) -> list[float]:
    acks = sorted(x["done"] for x in lines if x["saved"] and x["pop"] == pop)
    return [(b - a) * 1000 for a, b in zip(acks, acks[1:], strict=False)]


def _api(address: str, **query: str) -> dict[str, Any]:
    query |= {"action": "query", "format": "json", "formatversion": "2"}
    status, body = ask(address, "/api.php?" + urllib.parse.urlencode(query), timeout=30)
    if status != 200:
        raise RuntimeError(f"{address}: status {status}: {body[:200]!r}")
    return json.loads(body)


def _history(address: str, page: str) -> tuple[Counter[str], Counter[str]]:
    """How often each id is a revision's summary, and how often it stands in the text now."""
    summaries: Counter[str] = Counter()
    more: dict[str, str] = {}
    while True:
        asked = {"titles": page, "prop": "revisions", "rvprop": "comment", "rvlimit": "500"}
        answer = _api(address, **asked, **more)
        for found in answer["query"]["pages"]:
            summaries.update(x.get("comment", "") for x in found.get("revisions", []))
        if "continue" not in answer:
            break
        more = answer["continue"]
    answer = _api(address, titles=page, prop="revisions", rvprop="content", rvslots="main")
    text = "".join(
        x["slots"]["main"]["content"]
        for found in answer["query"]["pages"]
        for x in found.get("revisions", [])
    )
    return summaries, Counter(re.findall(r"^\* (\S+)\.$", text, re.MULTILINE))


def _files(address: str, idents: list[str]) -> tuple[Counter[str], list[str]]:
    """How many versions of each uploaded file the wiki knows, and which files it cannot give."""
    versions: Counter[str] = Counter()
    gone = []
    for ident in idents:
        asked = {"titles": f"File:{ident}.txt", "prop": "imageinfo", "iiprop": "url"}
        for page in _api(address, **asked, iilimit="9")["query"]["pages"]:
            info = page.get("imageinfo", [])
            versions[ident] += len(info)
            if info:
                path = urllib.parse.urlsplit(info[0]["url"]).path
                status, body = ask(address, path)
                if status != 200 or ident.encode() not in body:
                    gone.append(ident)
    return versions, gone


def judge(lines: list[Line], serving: str) -> Verdict:
    """Judge the lines against the wiki at `serving` (an address; asked by the public name)."""
    reads = [x for x in lines if x["kind"] == "read"]
    posts = [x for x in lines if x["kind"] in ("save", "upload")]
    refused = [x for x in lines if x.get("outcome") == "notice"]
    failed = [x for x in lines if x.get("outcome") == "error"]
    bad_reads = [x for x in reads if x["problem"]]

    summaries: Counter[str] = Counter()
    text: Counter[str] = Counter()
    for page in sorted({x["page"] for x in posts if x["kind"] == "save"}):
        found, standing = _history(serving, page)
        summaries += found
        text += standing
    versions, gone = _files(serving, [x["id"] for x in posts if x["kind"] == "upload"])
    there = summaries + versions

    acknowledged = [x for x in posts if x["saved"]]
    pops = sorted({x["pop"] for x in lines})
    gaps = {pop: _gaps(lines, pop) or [0.0] for pop in pops}
    times = {pop: [x["done"] for x in refused if x["pop"] == pop] or [0.0] for pop in pops}
    return Verdict(
        reader_requests=len(reads),
        reader_errors=len(bad_reads),
        reader_error_examples=_examples(bad_reads),
        saved=len(acknowledged),
        saw_notice=len(refused),
        editor_errors_other_than_notice=len(failed),
        editor_error_examples=_examples(failed),
        lost=[x["id"] for x in acknowledged if not there[x["id"]]],
        duplicated=[x["id"] for x in posts if there[x["id"]] > 1 or text[x["id"]] > 1],
        missing_from_text=[
            x["id"]
            for x in acknowledged
            if x["kind"] == "save" and summaries[x["id"]] and not text[x["id"]]
        ],
        saved_without_acknowledgement=[x["id"] for x in posts if not x["saved"] and there[x["id"]]],
        uploads_without_file=gone,
        write_unavailable_ms={pop: round(max(gaps[pop]), 1) for pop in pops},
        other_gap_ms={pop: round(sorted([0.0, *gaps[pop]])[-2], 1) for pop in pops},
        notice_ms={pop: round((max(x) - min(x)) * 1000, 1) for pop, x in times.items()},
    )
