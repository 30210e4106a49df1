"""The tree of verbs: which word leads to which module. Nothing of a verb is imported before it is called, or help is asked for."""

from __future__ import annotations

from cyclopts import App, Group, Parameter

from cli.options import GLOBAL_OPTIONS

EPILOGUE = "Global options (at any position): " + " ".join(
    f"{'/'.join(option.flags)}{' ' + option.metavar if option.metavar else ''}" for option in GLOBAL_OPTIONS
)

VERBS: dict[str, tuple[tuple[str, str], ...]] = {
    "Begin": (
        ("demo", "cli.verbs.demo:demo"),
        ("up", "cli.verbs.up:up"),
        ("doctor", "cli.verbs.doctor:doctor"),
        ("explain", "cli.verbs.explain:explain"),
    ),
    "Daily": (
        ("launch", "cli.verbs.launch:launch"),
        ("ls", "cli.verbs.orchestration:ls"),
        ("show", "cli.verbs.orchestration:show"),
        ("why", "cli.verbs.orchestration:why"),
        ("watch", "cli.verbs.orchestration:watch"),
        ("logs", "cli.verbs.history:logs"),
        ("timeline", "cli.verbs.history:timeline"),
        ("pause", "cli.verbs.control:pause"),
        ("resume", "cli.verbs.control:resume"),
        ("retry", "cli.verbs.control:retry"),
        ("cancel", "cli.verbs.control:cancel"),
        ("open", "cli.verbs.open:open_"),
    ),
    "Things": (
        ("project", "cli.verbs.project:app"),
        ("design", "cli.verbs.design:app"),
        ("ticket", "cli.verbs.ticket:app"),
        ("task", "cli.verbs.task:app"),
        ("gate", "cli.verbs.gate:app"),
        ("node", "cli.verbs.node:app"),
        ("action", "cli.verbs.action:app"),
        ("policy", "cli.verbs.policy:app"),
        ("flag", "cli.verbs.flag:app"),
    ),
    "History": (
        ("report", "cli.verbs.report:app"),
        ("sql", "cli.verbs.report:sql"),
        ("audit", "cli.verbs.audit:app"),
    ),
    "Plant": (
        ("serve", "cli.verbs.serve:app"),
        ("bus", "cli.verbs.bus:app"),
        ("schema", "cli.verbs.describe:app"),
        ("completion", "cli.verbs.describe:completion"),
    ),
}
"""Groups of words, each with the place of its function or of the app of its noun."""


def build(*, whole: bool = False) -> App:
    """Return the app with all verbs; with `whole` each is imported, which help, completion and documentation need."""
    app = App(
        name="qd",
        help="Quarterdeck: launch and steer fleets of coding agents.",
        help_epilogue=EPILOGUE,
        version=_version,
        help_format="plaintext",
        default_parameter=Parameter(negative_iterable=(), negative_bool=()),
    )
    for place, (title, verbs) in enumerate(VERBS.items()):
        group = Group(title, sort_key=place)
        for order, (name, where) in enumerate(verbs):
            app.command(where, name=name, group=group, sort_key=order)
            if whole:
                app[name]
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("quarterdeck")
