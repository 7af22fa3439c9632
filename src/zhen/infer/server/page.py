"""The chat page: Gradio, mounted on the server's own app. Imported only when a page is asked for."""

from __future__ import annotations

import hmac
import logging
import time
import warnings
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import gradio as gr
from fastapi import FastAPI

from zhen.errors import ZhenError
from zhen.infer.server.app import Service
from zhen.infer.server.refusals import Refusal
from zhen.infer.server.talk import Said, Talks, Wish
from zhen.infer.server.words import NAMES, WORDS, preferred

KEPT = 50
"""Chats that a browser keeps."""
TITLE = 24
"""Characters of a chat's first message that name it."""
FONTS = ["system-ui", "-apple-system", "Segoe UI", "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]
CSS = """
.gradio-container { width: 100% !important; max-width: 60rem !important; margin: auto; }
footer { display: none !important; }
#talk { height: calc(100dvh - 15rem) !important; min-height: 16rem; }
#notes, #speed { opacity: .7; font-size: .85rem; }
@media (max-width: 500px) { .gradio-container { padding: .5rem !important; } }
"""
TURN_DARK = "() => { document.body.classList.toggle('dark'); }"

Turns = list[dict[str, str]]
Store = dict[str, Any]
EMPTY: Store = {"language": None, "current": None, "talks": []}
"""What the browser keeps: talks are {id, title, turns, system}, the last used first."""


def mount(app: FastAPI, serving: Service) -> FastAPI:
    """The app with the page under /; what was there stays."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    theme = gr.themes.Default(font=FONTS, font_mono=MONO)
    keys = serving.bounds.keys

    def known(_user: str, key: str) -> bool:
        return any(hmac.compare_digest(key.encode(), each.encode()) for each in keys)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mounted: FastAPI = gr.mount_gradio_app(
            app,
            Page(serving).blocks,
            path="/",
            auth=known if keys else None,
            auth_message="API key as password" if keys else None,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            show_error=True,
            theme=theme,
            css=CSS,
            enable_monitoring=False,
            mcp_server=False,
        )
    return mounted


class Page:
    """The page's parts and what happens when they are used."""

    def __init__(self, serving: Service) -> None:
        self._served, self._talks = serving.served, Talks(serving)
        self._places = serving.worker.places
        talk = serving.served.conversation
        self._note = "" if talk.template else "one_turn" if talk.forms else "goes_on"
        with gr.Blocks(title=serving.served.name, analytics_enabled=False, fill_height=True) as self.blocks:
            self._lay_out()
            self._connect()
        self.blocks.queue(default_concurrency_limit=None, max_size=4 * self._places, api_open=False)

    def _lay_out(self) -> None:
        words, served = WORDS["en"], self._served
        chat, context = served.conversation.template is not None, served.engine.longest
        greedy = bool(served.conversation.forms) and not chat
        self.store = gr.BrowserState(EMPTY, storage_key="zhen-chat", secret="kept in this browser")
        with gr.Sidebar(open=False):
            self.language = gr.Radio(list(NAMES), value="English", label=words["language"], elem_id="language")
            self.new = gr.Button(words["new"], elem_id="new")
            self.earlier = gr.Radio([], label=words["earlier"], elem_id="earlier")
            self.system = gr.Textbox("", label=words["system"], lines=2, visible=chat, elem_id="system")
            with gr.Accordion(words["sampling"], open=False) as self.sampling:
                heat = 0.0 if greedy else served.defaults.get("temperature", 0.8)
                self.temperature = gr.Slider(0, 2, heat, step=0.05, label=words["temperature"])
                self.top_p = gr.Slider(0.05, 1, served.defaults.get("top_p", 0.95), step=0.05, label=words["top_p"])
                longest = min(512, context)
                self.max_tokens = gr.Slider(1, context, longest, step=1, label=words["max_tokens"])
                self.seed = gr.Number(None, precision=0, label=words["seed"])
            self.dark = gr.Button(words["dark"], elem_id="dark")
            self.forget = gr.Button(words["forget"], variant="stop", elem_id="forget")
        gr.Markdown(f"### {_plain(served.name)}")
        self.talk = gr.Chatbot(
            show_label=False, container=False, editable="user", elem_id="talk", feedback_options=None,
            buttons=["copy"], allow_file_downloads=False, layout="bubble",
        )  # fmt: skip
        self.speed = gr.Markdown("", elem_id="speed")
        with gr.Row():
            self.ask = gr.Textbox(
                placeholder="…", show_label=False, submit_btn=True, autofocus=True, scale=8,
                lines=1, max_lines=8, elem_id="ask",
            )  # fmt: skip
            self.stop = gr.Button(words["stop"], variant="stop", visible=False, scale=1, min_width=80, elem_id="stop")
        self.notes = gr.Markdown(self._notes("en"), elem_id="notes")

    def _connect(self) -> None:
        controls = [self.system, self.temperature, self.top_p, self.max_tokens, self.seed, self.language]
        shown = [self.ask, self.talk, self.speed, self.stop]
        kept = (self._keep, [self.store, self.talk, self.system], [self.store, self.earlier])
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        texts = [self.language, self.new, self.earlier, self.system, self.sampling, self.temperature, self.top_p,
                 self.max_tokens, self.seed, self.dark, self.forget, self.ask, self.stop, self.notes]  # fmt: skip
        for event, call, inputs in (
            (self.ask.submit, self._send, [self.ask, self.talk]),
            (self.talk.retry, self._retry, [self.talk]),
            (self.talk.edit, self._edit, [self.talk]),
        ):
            event(call, [*inputs, *controls], shown, **hidden).then(*kept, **hidden)
        self.stop.click(self._stop, None, None, queue=False, **hidden)
        self.blocks.unload(self._stop)
        self.new.click(self._begin, [self.store], [self.store, self.talk, self.earlier, self.speed], **hidden)
        opened = [self.store, self.talk, self.system, self.speed]
        self.talk.clear(self._begin, [self.store], [self.store, self.talk, self.earlier, self.speed], **hidden)
        self.earlier.input(self._open, [self.store, self.earlier], opened, **hidden)
        self.forget.click(
            lambda store: (EMPTY | {"language": store["language"]}, [], gr.Radio([], value=None), ""),
            [self.store], [self.store, self.talk, self.earlier, self.speed], **hidden,
        )  # fmt: skip
        self.dark.click(None, js=TURN_DARK, api_visibility="private")
        self.language.input(self._speak, [self.language, self.store], [self.store, *texts], **hidden)
        self.blocks.load(self._load, [self.store], [self.talk, self.system, *texts], **hidden)

    async def _send(
        self, text: str, turns: Sequence[Any], request: gr.Request, *rest: Any
    ) -> AsyncGenerator[Any, None]:
        if not text.strip():
            yield gr.skip()
            return
        async for update in self._answer([*_turns(turns), {"role": "user", "content": text}], rest, request, text):
            yield update

    async def _retry(
        self, turns: Sequence[Any], request: gr.Request, data: gr.RetryData, *rest: Any
    ) -> AsyncGenerator[Any, None]:
        kept = _turns(turns)[: _place(data.index) + 1]
        while kept and kept[-1]["role"] != "user":
            kept.pop()
        async for update in self._answer(kept, rest, request):
            yield update

    async def _edit(
        self, turns: Sequence[Any], request: gr.Request, data: gr.EditData, *rest: Any
    ) -> AsyncGenerator[Any, None]:
        kept = [*_turns(turns)[: _place(data.index)], {"role": "user", "content": _text(data.value)}]
        async for update in self._answer(kept, rest, request):
            yield update

    async def _answer(
        self, turns: Turns, rest: Sequence[Any], request: gr.Request, text: str = ""
    ) -> AsyncGenerator[Any, None]:
        """Updates of what is shown while an answer comes. `text` is put back where it is refused."""
        system, temperature, top_p, max_tokens, seed, language = rest
        words = WORDS[NAMES[language]]
        wish = Wish(system or "", temperature, top_p, int(max_tokens), None if seed is None else int(seed))
        busy = gr.Button(words["stop"], visible=True)
        yield "", turns, "", busy
        said: Said | None = None
        try:
            async for said in self._talks.answer(str(request.session_hash), turns, wish):
                answer = {"role": "assistant", "content": said.text}
                yield gr.skip(), [*turns, answer], _speed(said, words), busy
        except (Refusal, ZhenError) as error:
            message = error.message if isinstance(error, Refusal) else error.text()
            gr.Warning(_plain(message))
        if said is None:
            yield text, turns[:-1], "", gr.Button(visible=False)
        else:
            yield gr.skip(), gr.skip(), gr.skip(), gr.Button(visible=False)

    def _stop(self, request: gr.Request) -> None:
        self._talks.stop(str(request.session_hash))

    def _keep(self, store: Store, turns: Sequence[Any], system: str) -> tuple[Any, Any]:
        """The store with the chat as it is now, first in its list."""
        if not turns:
            return store, gr.skip()
        current = store.get("current") or str(time.time_ns())
        said = _turns(turns)
        talk = {"id": current, "title": said[0]["content"].strip()[:TITLE] or "…", "turns": said, "system": system}
        talks = [talk, *(each for each in store["talks"] if each["id"] != current)][:KEPT]
        store = {**store, "current": current, "talks": talks}
        return store, _choices(store)

    def _begin(self, store: Store) -> tuple[Any, ...]:
        store = {**store, "current": None}
        return store, [], _choices(store), ""

    def _open(self, store: Store, wanted: str) -> tuple[Any, ...]:
        found = _current({**store, "current": wanted})
        return {**store, "current": wanted}, found["turns"], found["system"], ""

    def _load(self, store: Store | None, request: gr.Request) -> tuple[Any, ...]:
        """What the browser kept; its own language where none was chosen."""
        store = EMPTY | (store or {})
        language = store["language"] or preferred(request.headers.get("accept-language") or "")
        found = _current(store)
        return found["turns"], found["system"], *self._texts(language, store)

    def _speak(self, name: str, store: Store) -> tuple[Any, ...]:
        store = EMPTY | (store or {}) | {"language": NAMES[name]}
        return store, *self._texts(NAMES[name], store)

    def _texts(self, language: str, store: Store) -> list[Any]:
        words = WORDS[language]
        name = next(name for name, code in NAMES.items() if code == language)
        return [
            gr.Radio(label=words["language"], value=name), gr.Button(words["new"]), _choices(store, words["earlier"]),
            gr.Textbox(label=words["system"]), gr.Accordion(label=words["sampling"]),
            gr.Slider(label=words["temperature"]), gr.Slider(label=words["top_p"]),
            gr.Slider(label=words["max_tokens"]), gr.Number(label=words["seed"]), gr.Button(words["dark"]),
            gr.Button(words["forget"]), gr.Textbox(placeholder=words["ask"]), gr.Button(words["stop"]),
            self._notes(language),
        ]  # fmt: skip

    def _notes(self, language: str) -> str:
        words = WORDS[language]
        return " ".join(words[name] for name in (self._note, "private") if name)


def _choices(store: Store, label: str | None = None) -> Any:
    choices = [(talk["title"], talk["id"]) for talk in store["talks"]]
    more: dict[str, Any] = {"label": label} if label else {}
    return gr.Radio(choices=choices, value=store.get("current"), **more)


def _current(store: Store) -> dict[str, Any]:
    none: dict[str, Any] = {"turns": [], "system": ""}
    return next((talk for talk in store["talks"] if talk["id"] == store.get("current")), none)


def _turns(shown: Sequence[Any]) -> Turns:
    """What a chat shows, as roles and texts."""
    return [{"role": turn["role"], "content": _text(turn["content"])} for turn in shown]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return str(content.get("text", ""))
    return "".join(_text(part) for part in content or [])


def _place(index: int | Sequence[int]) -> int:
    return index if isinstance(index, int) else index[0]


def _plain(text: str) -> str:
    """Text that no Markdown or HTML is read in."""
    return "".join(f"&#{ord(char)};" if not (char.isalnum() or char in " .,:;-()") else char for char in text)


def _speed(said: Said, words: dict[str, str]) -> str:
    rate = (said.tokens - 1) / said.seconds if said.seconds > 0 and said.tokens > 1 else 0.0
    line = words["speed"].format(tokens=said.tokens, rate=rate, first=said.first)
    return line + (words["forgotten"] if said.forgotten else "") + (words["stopped"] if said.stopped else "")
