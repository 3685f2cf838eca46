"""A login in front of the app, where its secrets ask for one: Streamlit's OpenID Connect, and who of those that it knows may come in.

Without `[auth]` in `.streamlit/secrets.toml` there is none: the app is then for the machine that it runs on, to which it binds by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import streamlit as st

from planner.ui import texts
from planner.ui.language import _

SECTION: Final = "plumbline"
"""Section of the secrets with `allowed`: addresses, and domains that begin with @."""


def require() -> None:
    """Stop the run of the script unless nobody needs to log in, or somebody has who may come in."""
    if not st.secrets.load_if_toml_exists() or "auth" not in st.secrets:
        return
    user: Mapping[str, Any] = st.user
    if not user.get("is_logged_in", False):
        st.title(_("Plumbline"), anchor=False)
        st.markdown(_("This app asks for a login: who can open it can use the machine's accelerators."))
        st.button(_("Log in"), type="primary", icon=":material/login:", on_click=st.login, key="login")
        st.stop()
    allowed = st.secrets.get(SECTION, {}).get("allowed", ())
    if not may_enter(user, allowed):
        st.error(_("Ask whoever runs this app to add your address."), title=_(f"{texts.plain(str(user.get('email') or 'You'))} may not use this app"))
        st.button(_("Log out"), icon=":material/logout:", on_click=st.logout, key="logout")
        st.stop()


def may_enter(user: Mapping[str, Any], allowed: Sequence[str]) -> bool:
    """Whether somebody is on the list. An address counts only where the provider has not said that it is unverified; an empty list lets nobody in.

    Arguments
    ---------
    user: the claims of the identity token.
    allowed: addresses (ann@example.org), and domains (@example.org); case does not count.
    """
    email = str(user.get("email") or "").strip().casefold()
    if not email or email.count("@") != 1 or user.get("email_verified") is False:
        return False
    known = {str(one).strip().casefold() for one in allowed if isinstance(one, str)}
    return email in known or "@" + email.partition("@")[2] in known
