"""What all pages share: the router and its guard, the plan of this run of the script, links, errors, colours."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from planner import estimate, units
from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.lock import lock_of
from planner.run import Run, parse_run
from planner.summary import gpu_name, precision_name, sample_text
from planner.ui import changes, charts, estimates, inputs, language, measuring, state, texts
from planner.ui.address import from_address, to_address
from planner.ui.language import _
from planner.ui.link import decode, encode, pin, reopen

_log = logging.getLogger(__name__)
ICON = (
    "data:image/svg+xml;base64,"
    + base64.b64encode(
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M6 4h20" stroke="#0f766e" stroke-width="3" stroke-linecap="round"/>'
        b'<path d="M16 4v13" stroke="#0f766e" stroke-width="2"/><path d="M11 17h10v4l-5 8-5-8z" fill="#0f766e"/></svg>'
    ).decode()
)
"""A plumb line. Icons by name would be asked of another server."""

PAGES = {
    "plan": ("pages/plan.py", "Plan", ":material/straighten:"),
    "compare": ("pages/compare.py", "Compare", ":material/compare_arrows:"),
    "explore": ("pages/explore.py", "Explore", ":material/explore:"),
    "calibrate": ("pages/calibrate.py", "Calibrate", ":material/speed:"),
    "audit": ("pages/audit.py", "Audit", ":material/fact_check:"),
    "method": ("pages/method.py", "Method", ":material/function:"),
    "accuracy": ("pages/accuracy.py", "Accuracy", ":material/target:"),
    "reports": ("pages/reports.py", "Reports", ":material/description:"),
    "saved": ("pages/saved.py", "Saved", ":material/bookmarks:"),
}
"""Page by its name in the address: file, title, icon."""
LINES = 12
"""Changes since a link was made that are shown."""
MAX_CONFIG_IN_ADDRESS = 8000
"""Characters: servers and chat programs cut longer addresses."""


@dataclass(frozen=True)
class Current:
    """The plan that pages draw.

    run, estimate: the plan; while an input is wrong, the last one that worked.
    error: what is wrong with the inputs.
    profile: the measured device that the plan stands on, if the user chose one.
    """

    run: Run
    estimate: Estimate
    error: PlanError | None = None
    profile: DeviceProfile | None = None


def pages() -> dict[str, Any]:
    """The pages by their name in the address."""
    return {
        name: st.Page(file, title=_(title), icon=icon, url_path=None if name == "plan" else name, default=name == "plan")
        for name, (file, title, icon) in PAGES.items()
    }


def forward(known: dict[str, Any]) -> None:
    """Second half of the guard: a deep link that was sent through Home.py goes on to its page, before any bound widget is drawn."""
    if "open" in st.query_params:
        rest = {key: value for key, value in st.query_params.to_dict().items() if key != "open"}
        st.switch_page(known.get(st.query_params["open"], known["plan"]), query_params=rest)


def choose_language() -> None:
    """The language of the page, in the address and for the session; the first is that of the browser."""
    st.segmented_control(
        "Language · 语言",
        list(language.NAMES),
        default=language.first(),
        required=True,
        key=language.KEY,
        bind="query-params",
        format_func=lambda code: language.NAMES[code],
        label_visibility="collapsed",
        on_change=changes.write_again,
    )


def check_address(page: Any) -> None:
    """On the first run of a session: words of a run file in the address become what the inputs call them, and what no input can take is remarked on."""
    if "model" in st.session_state:
        return
    address = st.query_params.to_dict()
    fixed, remarks = from_address(address)
    if remarks:
        st.session_state["link_remarks"] = (*st.session_state.get("link_remarks", ()), *remarks)
    if fixed != address:
        st.switch_page(page, query_params=fixed)


def run_page(page: Any) -> None:
    """Run a page. A fault of ours is logged and said in a sentence; the sidebar and the other pages go on."""
    try:
        page.run()
    except PlanError as error:
        show_error(error)
    except Exception as fault:
        _log.exception("page %s failed", page.title)
        st.error(
            _(f"The plan is kept. Please report this with the full link of the sidebar ({type(fault).__name__})."),
            title=_("This part of the page could not be drawn: a fault of Plumbline, not of your input"),
            icon=":material/bug_report:",
        )


def open_page(name: str) -> Current:
    """First half of the guard, then the plan to draw. A page that a fresh server runs without Home.py goes through Home.py first."""
    if "current" not in st.session_state:
        st.switch_page("Home.py", query_params={**st.query_params.to_dict(), "open": name})
    current: Current = st.session_state["current"]
    return current


def read_link(page: Any) -> None:
    """A full link becomes an address of its values, so that the plan is kept when the page is loaded again; what it could not say is remarked on."""
    if "plan" in st.query_params:
        run, remarks = decode(st.query_params["plan"], st.query_params.get("v"))
        address: dict[str, str] = {}
        if run is not None:
            if "lock" in st.query_params:
                run, more, changed = reopen(run, st.query_params["lock"])
                remarks = (*remarks, *more)
                st.session_state["link_changes"] = changed
            values, config = state.values_of(run)
            address = to_address(values)
            if config is not None:
                st.session_state["config_text"] = state.config_text(config)
                if len(text := _packed(config)) <= MAX_CONFIG_IN_ADDRESS:
                    address["config"] = text
        st.session_state["link_remarks"] = remarks
        st.switch_page(page, query_params=address)
    if "config" in st.query_params and "config_text" not in st.session_state:
        text = st.query_params["config"]
        try:
            st.session_state["config_text"] = state.config_text(
                json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            )
        except (ValueError, AttributeError, RecursionError):
            st.session_state["link_remarks"] = ("The configuration in the address cannot be read.",)
            del st.query_params["config"]


def compute(said: inputs.Inputs) -> Current:
    """The plan of the inputs, or the last one that worked with what is wrong now."""
    try:
        if said.error is not None:
            raise said.error
        run = parse_run(state.run_mapping(said.values, said.config))
        profile = measuring.in_use()
        if profile is not None:
            run = measuring.on_device(run, profile)
        current = Current(run, estimates.planned(run, profile), profile=profile)
    except PlanError as error:
        current = _last(error)
    except Exception as fault:
        _log.exception("the plan could not be computed")
        problem = f"could not be computed: a fault of Plumbline, not of your input ({type(fault).__name__})"
        current = _last(
            PlanError("run", "", problem, "Take the last change back, and please report the address of this page.")
        )
    st.session_state["current"] = current
    _keep_config(said)
    return current


def _last(error: PlanError) -> Current:
    last: Current | None = st.session_state.get("current")
    if last is not None:
        return replace(last, error=error)
    run = parse_run(state.run_mapping(state.defaults()))
    return Current(run, estimate(run), error)


def explain_inputs(said: inputs.Inputs, current: Current) -> None:
    """Under the inputs: what was understood, and the defaults that were taken."""
    if current.error is not None:
        _at_the_field(said, current.error)
        return
    e = current.estimate
    run, model, accelerator = e.run, e.details["model"], state.gpu_base(said.values.get("gpu"))
    said.notes["model"].caption(texts.plain(f"{units.format_count(e.parameters)} parameters, {model['summary']}"))
    if accelerator is not None:
        edited = f" ({_('edited')})" if isinstance(run.hardware.gpu, dict) else ""
        said.notes["gpu"].caption(texts.plain(accelerator.label.partition(" · ")[2]) + edited)
    steps, tokens = e.details["steps"], e.details["tokens_per_step"]
    if steps is not None:
        said.notes["data"].caption(
            texts.plain(f"{units.format_integer(steps)} steps of {units.format_integer(tokens)} tokens")
        )
    else:
        said.notes["data"].caption(_("Without it there is no total time and no cost."))
    checkpointing = "no" if run.activation_checkpointing == "none" else run.activation_checkpointing
    batch = f"batch {run.batch.micro} × {run.batch.accumulation}" + (f" × {run.dp}" if run.dp > 1 else "")
    parts = [
        precision_name(run),
        texts_optimizer(run),
        sample_text(run),
        batch,
        f"{checkpointing} checkpointing",
        f"{run.offload} offloaded" if run.offload != "none" else "",
        f"{run.attention} attention",
        str(run.parallel.sharding) if run.dp > 1 else "",
        texts_stack(run),
    ]
    said.notes["defaults"].caption(f"{_('Planned with')} {' · '.join(texts.plain(part) for part in parts if part)}")


def _at_the_field(said: inputs.Inputs, error: PlanError) -> None:
    """Under the inputs that the error is of: what is wrong. The page says it in full."""
    place = {"hardware": "gpu", "price": "parallel", "energy": "parallel", "whole_run": "whole"}.get(part := error.field.partition(".")[0], part)
    note = said.notes.get(place) or said.notes.get("defaults")
    if note is not None and error.value is not None:
        note.caption(_(f":red[:material/error: {texts.plain(error.field)} {texts.plain(error.problem)}]"))


def texts_optimizer(run: Run) -> str:
    """Label of the run's optimizer."""
    from planner.workload.optimizers import OPTIMIZERS

    kind = OPTIMIZERS.get(run.optimizer)
    return kind.label if kind is not None else run.optimizer


def texts_stack(run: Run) -> str:
    """Label of the run's training software."""
    from planner.workload.stacks import STACKS

    kind = STACKS.get(run.stack)
    return kind.label if kind is not None else run.stack


def share(current: Current) -> None:
    """The full link: it pins every value and what the plan stands on, so that it means the same plan when defaults and catalogues change."""
    with st.popover(_("Copy full link"), icon=":material/link:", type="tertiary", key="share_popover"):
        st.caption(
            _(
                "Pins every value of this plan with its versions and prices; who opens it later is told what has changed. "
                "The address bar holds the plan too, without the defaults."
            )
        )
        base = (st.context.url or "").partition("?")[0]
        st.code(
            f"{base}?plan={encode(current.run)}&v={state.LINK_VERSION}&lock={pin(lock_of(current.run, current.estimate, current.profile))}",
            language=None,
            wrap_lines=True,
            height=120,
        )


def link_remarks() -> None:
    """What of a link could not be honoured, and what has changed since it was made."""
    remarks = st.session_state.get("link_remarks")
    if remarks:
        st.warning(
            "\n".join(f"- {texts.plain(remark)}" for remark in remarks),
            title=_("Not everything in the link could be used"),
        )
    if changed := st.session_state.get("link_changes"):
        st.info(
            "\n".join(f"- {texts.plain(line)}" for line in changed[:LINES]) + (f"\n- and {len(changed) - LINES} more" if len(changed) > LINES else ""),
            title=_("Since this link was made, this has changed"),
            icon=":material/history:",
        )


def show_profile(current: Current) -> None:
    """Which measured device the plan stands on, and the way back to the catalogue."""
    if current.profile is not None:
        st.caption(_(f":material/speed: Planned on **{texts.plain(current.profile.name)}**, not on the GPU above."))
        if st.button(_("Plan on the GPU above"), key="profile_stop", type="tertiary"):
            st.session_state[measuring.IN_USE] = None
            st.rerun()


def show_error(error: PlanError) -> None:
    """One clear error: field, value, problem, fix. What is only missing yet is no error."""
    title, fix = texts.error_parts(error)
    if error.value is None:
        st.info(_(fix), title=_(title), icon=":material/edit_note:")
        return
    st.error(_(fix), title=_(title), icon=":material/error:")


def show_stale(current: Current) -> None:
    """The error of the inputs, above a page that still shows the last plan that worked."""
    if current.error is not None:
        show_error(current.error)
        st.caption(
            _(f"Until then this page shows the last plan that could be computed: {summary_line(current.estimate)}.")
        )


def summary_line(e: Estimate) -> str:
    """Model, method and hardware of a plan in one line of markdown."""
    run = e.run
    rank = f", {_('rank')} {run.method.rank}" if run.method.rank is not None else ""
    model = texts.short_model(str(e.details["model"]["name"]))
    return f"**{texts.plain(model)}** · {texts.plain(method_label(run))}{texts.plain(rank)} · {run.hardware.gpus} × {texts.plain(gpu_name(run))}"


def method_label(run: Run) -> str:
    """Label of the run's method."""
    from planner.workload.methods import METHODS

    kind = METHODS.get(run.method.name)
    return kind.label if kind is not None else run.method.name


def theme() -> charts.Theme:
    """Colours of the theme that the browser shows."""
    mode = "dark" if st.context.theme.type == "dark" else "light"
    known = charts.DARK if mode == "dark" else charts.LIGHT

    def option(name: str, otherwise: Any) -> Any:
        return st.get_option(f"theme.{mode}.{name}") or otherwise

    return charts.Theme(
        ink=option("textColor", known.ink),
        faint=option("grayColor", known.faint),
        line=option("borderColor", known.line),
        ground=option("backgroundColor", known.ground),
        accent=option("primaryColor", known.accent),
        palette=tuple(option("chartCategoricalColors", known.palette)),
    )


_DARK_INK = (
    '<style>[data-testid="stBaseButton-primary"], [data-testid="stBaseButton-primary"] *, [data-tag-index], [data-tag-index] * '
    "{ color: #0d1312; fill: #0d1312; }</style>"
)
"""On the bright accent of the dark theme Streamlit writes in white, with a contrast of 1.9; dark letters have 9.6 (WCAG 2 asks for 4.5)."""


def readable() -> None:
    """What the theme cannot say: the colour of letters on the accent of the dark theme."""
    if st.context.theme.type == "dark":
        st.html(_DARK_INK)


def draw(figure: Any, key: str, alt: str) -> None:
    """A chart without toolbar; `alt` says what it shows to who cannot see it."""
    st.plotly_chart(
        language.figure(figure),
        key=key,
        theme=None,
        config={"displayModeBar": False, "scrollZoom": False, "doubleClick": False},
        alt=_(alt),
    )


def _keep_config(said: inputs.Inputs) -> None:
    """A pasted or uploaded configuration goes to the address, if it is short enough."""
    if said.values.get("source") == state.CONFIG and said.config is not None:
        text = _packed(said.config)
        if len(text) <= MAX_CONFIG_IN_ADDRESS:
            if st.query_params.get("config") != text:
                st.query_params["config"] = text
            return
        said.notes["model"].caption(_("This configuration is too long for the address: share the report or the file."))
    if "config" in st.query_params and said.error is None:
        del st.query_params["config"]


def _packed(config: Mapping[str, Any]) -> str:
    """A configuration as the address holds it."""
    return base64.urlsafe_b64encode(json.dumps(config, separators=(",", ":")).encode()).decode().rstrip("=")
