"""What of a page's patches is sent again: what has changed, and no more."""

from __future__ import annotations

from console.pieces import changed


def patch(target: str, body: str) -> str:
    return f'<hx-partial hx-target="#{target}" hx-swap="innerMorph">{body}</hx-partial>'


def piece(name: str, body: str) -> str:
    return f"<!--piece {name}-->{body}<!--/piece-->"


def chart(*bodies: str, title: str = "two lines") -> str:
    return patch("chart", f"<p>{title}</p>" + "".join(f'<div id="row-{n}">{piece(f"row-{n}", body)}</div>' for n, body in enumerate(bodies)))


def test_a_patch_that_is_the_same_is_not_sent_again() -> None:
    before, after = patch("head", "a") + "\n" + patch("list", "b"), patch("head", "a") + "\n" + patch("list", "c")
    assert changed(before, after) == patch("list", "c")
    assert changed(after, after) == ""


def test_of_a_patch_only_the_pieces_that_changed_are_sent() -> None:
    assert changed(chart("a", "b", "c"), chart("a", "x", "c")) == patch("row-1", piece("row-1", "x"))


def test_a_patch_with_another_piece_or_another_frame_is_sent_whole() -> None:
    for after in (chart("a", "b"), chart("a", title="else"), chart("b", title="else")):
        assert changed(chart("a"), after) == after
    assert changed("", chart("a")) == chart("a")


def test_times_that_go_on_are_no_change_and_what_is_sent_has_them() -> None:
    def shown(words: str, since: str = "17.5") -> str:
        return chart(f'<tspan data-running="{since}">{words}</tspan>', f'<time title="t" data-since="{since}">{words} ago</time>')

    assert changed(shown("3s"), shown("4s")) == ""
    assert "4s ago" in changed(shown("3s"), shown("4s", "18.5"))


def test_what_is_no_patch_is_sent_whole_when_it_changed() -> None:
    assert changed("<p>a</p>", "<p>b</p>") == "<p>b</p>"
    assert changed("<p>a</p>", "<p>a</p>") == ""


def test_a_text_of_a_user_is_no_mark() -> None:
    hostile = "&lt;!--piece x--&gt;&lt;/hx-partial&gt;"
    assert changed(chart("a", hostile), chart("b", hostile)) == patch("row-0", piece("row-0", "b"))
