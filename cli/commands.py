"""The tree of verbs: which word leads to which module. Nothing of a verb is imported before it is called."""

from __future__ import annotations

from cyclopts import App

from cli.options import GLOBAL_OPTIONS

EPILOGUE = "Global options (at any position): " + " ".join(
    f"{'/'.join(option.flags)}{' ' + option.metavar if option.metavar else ''}" for option in GLOBAL_OPTIONS
)

SERVICE = ("demo", "up", "serve")
"""Verbs that run services: functions that return an exit code, and do without a session."""

DAILY = (
    ("demo", "cli.verbs.demo:demo", "See everything work in half a minute, on a throw-away folder."),
    ("up", "cli.verbs.up:up", "Run bus, controller, one node and timeline in one process."),
    ("launch", "cli.verbs.launch:launch", "Launch a design on a node."),
    ("ls", "cli.verbs.orchestration:ls", "List the orchestrations."),
    ("show", "cli.verbs.orchestration:show", "Show an orchestration: plan, holds, what can be done next."),
    ("watch", "cli.verbs.orchestration:watch", "Follow an orchestration until it ends."),
    ("logs", "cli.verbs.history:logs", "Show what agents printed, or what they were asked."),
    ("timeline", "cli.verbs.history:timeline", "Show every request, outcome and event of an orchestration."),
    ("pause", "cli.verbs.control:pause", "Pause an orchestration."),
    ("resume", "cli.verbs.control:resume", "Resume a paused orchestration."),
    ("retry", "cli.verbs.control:retry", "Retry what failed of a blocked orchestration."),
    ("cancel", "cli.verbs.control:cancel", "Cancel an orchestration for good."),
    ("sql", "cli.verbs.report:sql", "Ask the history in SQL."),
    ("doctor", "cli.verbs.doctor:doctor", "Look whether everything is as it should be."),
    ("explain", "cli.verbs.explain:explain", "Explain a reason code or an exit code."),
    ("completion", "cli.verbs.describe:completion", "Print a completion script for a shell."),
)

NOUNS = (
    ("project", "cli.verbs.project:app", "Repositories that are worked on."),
    ("design", "cli.verbs.design:app", "What is to be built: Markdown with the phases of the work."),
    ("ticket", "cli.verbs.ticket:app", "Pieces of wanted work, which a launch can take up."),
    ("gate", "cli.verbs.gate:app", "Where orchestrations wait for a human to judge."),
    ("node", "cli.verbs.node:app", "The machines that run agents."),
    ("action", "cli.verbs.action:app", "Requests and what became of them, refused ones too."),
    ("policy", "cli.verbs.policy:app", "Which models work, how work is judged, how it flows."),
    ("flag", "cli.verbs.flag:app", "Feature flags: which kinds of command are taken."),
    ("report", "cli.verbs.report:app", "What launches came to, how long actions took, what failed."),
    ("bus", "cli.verbs.bus:app", "The bus: its streams, made and looked at."),
    ("serve", "cli.verbs.serve:app", "One service in the foreground."),
    ("schema", "cli.verbs.describe:app", "The contract, for programs."),
)


def build() -> App:
    """Return the app with all verbs, none of them imported."""
    from importlib.metadata import version

    app = App(
        name="qd",
        help="Quarterdeck: launch and steer fleets of coding agents.",
        help_epilogue=EPILOGUE,
        version=lambda: version("quarterdeck"),
        help_format="plaintext",
    )
    for name, place, text in (*DAILY, *NOUNS):
        app.command(place, name=name, help=text)
    return app
