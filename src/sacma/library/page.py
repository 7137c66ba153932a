"""Moments as one HTML page with a strip of pictures each, without scripts and without outside resources."""

from __future__ import annotations

from html import escape
from pathlib import Path

from sacma.errors import SacmaError, one_line
from sacma.files import write_text
from sacma.library.search import Found, Moment
from sacma.library.tables import NOTES
from sacma.media.decode import LIMITS, Clip, Frame, Limits
from sacma.media.jpeg import data_address
from sacma.media.listing import plain_text

_PICTURES = 3
_SIDE = 112
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
ol {{ padding-left: 2rem }} li {{ margin: 0 0 1.5rem }} img {{ height: 7rem; margin-right: 4px }}
p {{ margin: 0; overflow-wrap: anywhere }}
</style></head><body>
<h1>{title}</h1>{note}
<ol>
{moments}
</ol>
</body></html>
"""
_MOMENT = """<li><p>{pictures}</p>
<p><a href="{link}">{clip}</a>, {start:.1f} to {end:.1f} s, score {score:.3f}{note}</p></li>"""


def write_page(out: Path, moments: Found, *, title: str, limits: Limits = LIMITS) -> None:
    """Write the page.

    Args:
        out: the file.
        moments: the best first.
        title: what was looked for.
        limits: what a clip may ask of us.

    Raises:
        SacmaError: the file cannot be written.
    """
    rows = [_moment(one, limits) for one in moments]
    note = f"\n<p>{escape(moments.note.capitalize())}.</p>" if moments.note else ""
    write_text(out, _PAGE.format(title=escape(plain_text(title)), note=note, moments="\n".join(rows)))


def _moment(moment: Moment, limits: Limits) -> str:
    notes = [NOTES[moment.status]] if moment.status else []
    pictures = ""
    if moment.status != "gone":
        try:
            pictures = "".join(
                f'<img alt="" src="{data_address(frame)}">' for frame in _frames(moment, limits)
            )
        except SacmaError as error:
            notes.append(one_line(error, limit=200))
    return _MOMENT.format(
        pictures=pictures or "no pictures",
        link=escape(Path(moment.clip).as_uri()),
        clip=escape(plain_text(moment.clip)),
        start=moment.start,
        end=moment.end,
        score=moment.score,
        note=escape(plain_text("".join(f"; {note}" for note in notes))),
    )


def _frames(moment: Moment, limits: Limits) -> list[Frame]:
    """Pictures of a moment, evenly over it; none of a sound."""
    clip = Clip.open(moment.clip, limits=limits)
    if not clip.has_video:
        return []
    rate = _PICTURES / max(moment.end - moment.start, 0.1)
    end = None if clip.seconds is not None and moment.end >= clip.seconds else moment.end
    shown = clip.frames(rate=rate, size=_SIDE, start=moment.start, end=end)
    return [frame for _, frame in shown][:_PICTURES]
