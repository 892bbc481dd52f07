#!/usr/bin/env python3
"""Real clients against a real server: openai (sync, async, streams, errors), llm, langchain-openai, litellm. Each must read the energy.

Replies in the form of a schema and tool calls too; the latter on a second server with a template that takes tools.

  clients_test.py --wattle build/wattle --model MODEL.gguf [--meter-args "--meter replay --replay trace.csv"]

Run it with a Python that has the clients (python3 -m venv V && V/bin/pip install openai pydantic llm langchain-openai litellm); a client
that is missing is skipped with a sentence. Starts servers on free ports of loopback, ends them by their process ids. Last line: counts.
SPDX-License-Identifier: Apache-2.0
"""
import argparse, asyncio, importlib.util, json, os, re, shlex, signal, subprocess, sys, tempfile, threading, traceback

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network for prices
HERMES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chat_template", "family_hermes.jinja")
counts = {"passed": 0, "failed": 0, "skipped": 0}
MESSAGES = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Say hello to Ada."}]


def check(condition, words):
    if not condition:
        raise AssertionError(words)


class Server:
    def __init__(self, wattle, model, more):
        self.state = tempfile.TemporaryDirectory()
        env = dict(os.environ, XDG_STATE_HOME=self.state.name)
        self.process = subprocess.Popen([wattle, "serve", "-m", model, "--port", "0", "--alias", "local", "-np", "4", *more], stderr=subprocess.PIPE, text=True, env=env)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.url = found.group(0)
                break
        else:
            raise SystemExit("the server did not start:\n" + "".join(self.lines))
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        check(self.process.wait(60) == 0, "the server ended with an error:\n" + "".join(self.lines[-20:]))


def check_energy(energy):
    """The object of a settled or unavailable answer: never 0 for unknown, always a reason."""
    check(isinstance(energy, dict), f"no energy object: {energy!r}")
    check(energy["status"] in ("measured", "modelled", "below_resolution", "disputed", "unavailable"), energy["status"])
    if energy["status"] == "unavailable":
        check(energy["energy_joules"] is None and energy["reason"], "unknown energy must be null with a reason")
    else:
        check(energy["energy_joules"] > 0 and energy["bound_joules"] is not None, f"{energy['energy_joules']} J without a bound")
        check(energy["low_joules"] <= energy["energy_joules"] <= energy["high_joules"], "the interval must hold the figure")
    check(energy["phases"]["decode"]["tokens"] >= 1, "decoded tokens are missing")


def usage_dict(usage):
    return usage if isinstance(usage, dict) else usage.model_dump()


def check_usage(usage, cached_at_least=0):
    u = usage_dict(usage)
    check(u["prompt_tokens"] > 5 and u["completion_tokens"] >= 1, str(u))
    check(u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"], str(u))
    check(u["prompt_tokens_details"]["cached_tokens"] >= cached_at_least, str(u))
    check_energy(u["energy"])
    check(u["energy_joules"] == u["energy"]["energy_joules"], "the flat figure differs from the object")


# ---- openai -----------------------------------------------------------------------------------------------------------
def openai_client(url):
    import openai
    return openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)


def openai_sync(url):
    r = openai_client(url).chat.completions.create(model="whatever", messages=MESSAGES, max_tokens=12, temperature=0, seed=1)
    check(r.object == "chat.completion" and r.choices[0].message.role == "assistant" and r.choices[0].message.content, str(r))
    check(r.choices[0].finish_reason in ("stop", "length"), str(r))
    check_usage(r.usage)
    check_energy(r.model_extra["energy"])


def openai_cached(url):
    client = openai_client(url)
    ask = lambda: client.chat.completions.create(model="local", messages=MESSAGES + [{"role": "user", "content": "Twice the same question."}], max_tokens=4, temperature=0)
    first, second = ask(), ask()
    check(second.usage.prompt_tokens_details.cached_tokens == second.usage.prompt_tokens - 1, str(second.usage))
    check(first.choices[0].message.content == second.choices[0].message.content, "a cached prompt gave another answer")


def openai_stream(url):
    chunks = list(openai_client(url).chat.completions.create(model="local", messages=MESSAGES, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}))
    check(chunks[0].choices[0].delta.role == "assistant", "the first delta has no role")
    check(len({c.id for c in chunks}) == 1, "chunks of several ids")
    with_usage = [c for c in chunks if c.usage]
    check(len(with_usage) == 1 and with_usage[0] is chunks[-1] and not chunks[-1].choices, "usage must come once, at the end, without choices")
    check_usage(chunks[-1].usage)


def openai_stream_no_usage(url):
    chunks = list(openai_client(url).chat.completions.create(model="local", messages=MESSAGES, max_tokens=6, temperature=0, stream=True))
    check(all(c.choices for c in chunks), "an unasked chunk without choices")
    with_usage = [c for c in chunks if c.usage]
    check(len(with_usage) == 1 and with_usage[0].choices[0].finish_reason, "usage belongs on the finish chunk")
    check_usage(with_usage[0].usage)


def openai_stream_helper(url):
    with openai_client(url).chat.completions.stream(model="local", messages=MESSAGES, max_tokens=12, temperature=0, stream_options={"include_usage": True}) as stream:
        text = "".join(e.delta for e in stream if e.type == "content.delta")
        final = stream.current_completion_snapshot  # get_final_completion() refuses an answer that max_tokens has cut
    check(text and final.choices[0].message.content == text, f"{text!r} against {final.choices[0].message.content!r}")
    check_usage(final.usage)


def openai_completions(url):
    r = openai_client(url).completions.create(model="local", prompt="Once upon a time", max_tokens=8, temperature=0, logprobs=2)
    check(r.choices[0].text and len(r.choices[0].logprobs.tokens) >= 1, str(r))
    u = usage_dict(r.usage)
    check(u["prompt_tokens"] >= 4 and u["completion_tokens"] == 8, str(u))


def openai_logprobs(url):
    r = openai_client(url).chat.completions.create(model="local", messages=MESSAGES, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3, n=2)
    check(len(r.choices) == 2 and [c.index for c in r.choices] == [0, 1], str(r))
    for token in r.choices[0].logprobs.content:
        check(len(token.top_logprobs) == 3 and token.top_logprobs[0].logprob >= token.top_logprobs[2].logprob and token.logprob <= 0, str(token))


def openai_errors(url):
    import openai
    client = openai_client(url)
    cases = [({"temperature": "hot"}, "temperature"), ({"max_tokens": -3}, "max_tokens"), ({"messages": []}, "messages"), ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, None)]
    for more, param in cases:
        try:
            client.chat.completions.create(**{"model": "local", "messages": MESSAGES, **more})
            raise AssertionError(f"{more} was taken")
        except openai.BadRequestError as e:
            check(e.status_code == 400 and e.body["message"] and e.body["type"] == "invalid_request_error", str(e.body))
            check(param is None or e.body["param"] == param, f"{more}: param {e.body['param']}")
    try:
        client.chat.completions.create(model="local", messages=[{"role": "user", "content": "word " * 50000}])
        raise AssertionError("a prompt beyond the context was taken")
    except openai.BadRequestError as e:
        check("tokens" in e.body["message"], str(e.body))
    try:
        client.get("/nothing", cast_to=object)
        raise AssertionError("an unknown route answered")
    except openai.NotFoundError as e:
        check(e.status_code == 404, str(e))


def openai_async(url):
    import openai

    async def both():
        client = openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        ask = lambda i: client.chat.completions.create(model="local", messages=[{"role": "user", "content": f"Count to {i}."}], max_tokens=10, temperature=0)
        answers = await asyncio.gather(*(ask(i) for i in range(1, 7)))
        stream = await client.chat.completions.create(model="local", messages=MESSAGES, max_tokens=6, stream=True)
        return answers, [c async for c in stream]

    answers, chunks = asyncio.run(both())
    for a in answers:
        check_usage(a.usage)
    check(chunks[-1].choices[0].finish_reason, "the stream has no end")


def openai_models(url):
    models = openai_client(url).models.list().data
    check([m.id for m in models] == ["local"], str(models))


def openai_json(url):
    r = openai_client(url).chat.completions.create(model="local", messages=[{"role": "user", "content": "Ada is 36. Give her name and age as JSON."}], max_tokens=80, temperature=0, response_format={"type": "json_object"})
    if r.choices[0].finish_reason == "stop":
        check(isinstance(json.loads(r.choices[0].message.content), dict), r.choices[0].message.content)


PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer", "minimum": 0, "maximum": 150}}, "required": ["name", "age"], "additionalProperties": False}


def check_person(text):
    person = json.loads(text)
    check(list(person) == ["name", "age"] and isinstance(person["name"], str) and 0 <= person["age"] <= 150, text)


def openai_json_schema(url):
    for seed in range(3):
        r = openai_client(url).chat.completions.create(model="local", messages=[{"role": "user", "content": "Ada is 36."}], max_tokens=200, temperature=1, seed=seed, n=2,
                                                       response_format={"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}})
        for choice in r.choices:
            check(choice.finish_reason == "stop", str(choice))
            check_person(choice.message.content)
    r = openai_client(url).completions.create(model="local", prompt="Ada is 36.", max_tokens=200, extra_body={"json_schema": PERSON})
    check_person(r.choices[0].text)


def openai_json_schema_errors(url):
    import openai
    try:
        openai_client(url).chat.completions.create(model="local", messages=MESSAGES, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "uniqueItems": True}}})
        raise AssertionError("a schema that cannot be kept was taken")
    except openai.BadRequestError as e:
        check(e.body["param"] == "response_format.json_schema.schema.uniqueItems" and "not supported" in e.body["message"], str(e.body))


def openai_parse(url):
    """The helper that makes a schema of a class and the class of the reply."""
    import enum, typing
    import pydantic

    class Kind(enum.Enum):
        CAT = "cat"
        DOG = "dog"

    class Pet(pydantic.BaseModel):
        kind: Kind
        name: str = pydantic.Field(max_length=12)

    class Owner(pydantic.BaseModel):
        age: int = pydantic.Field(ge=0, le=150)
        nick: typing.Optional[typing.Literal["A", "B"]]
        pets: typing.List[Pet] = pydantic.Field(max_length=2)

    for seed in range(3):
        r = openai_client(url).chat.completions.parse(model="local", messages=[{"role": "user", "content": "Ada, 36, has a cat Tom."}], response_format=Owner, max_tokens=300, temperature=1, seed=seed)
        check(isinstance(r.choices[0].message.parsed, Owner), str(r))
    with openai_client(url).chat.completions.stream(model="local", messages=MESSAGES, response_format=Pet, max_tokens=200, temperature=0) as stream:
        final = stream.get_final_completion()
    check(isinstance(final.choices[0].message.parsed, Pet), str(final))


def openai_echo(url):
    r = openai_client(url).completions.create(model="local", prompt="Once upon a time", max_tokens=2, temperature=0, logprobs=2, echo=True)
    logprobs = r.choices[0].logprobs
    check(r.choices[0].text.startswith("Once upon a time") and logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None, str(r))
    check(len(logprobs.tokens) == r.usage.prompt_tokens + 2 and all(x <= 0 for x in logprobs.token_logprobs[1:]), str(r))
    r = openai_client(url).completions.create(model="local", prompt="Once upon a time", max_tokens=0, logprobs=0, echo=True)
    check(r.choices[0].text == "Once upon a time" and r.usage.completion_tokens == 0, str(r))


# ---- tools: on the server whose template takes them -----------------------------------------------------------------------
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Weather in a city", "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "its name", "maxLength": 20}, "unit": {"type": "string", "description": "of degrees", "enum": ["C", "F"]}}, "required": ["city", "unit"]}}},
         {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}]
ASK = [{"role": "user", "content": "What is the weather in Oslo?"}]


def check_call(call):
    arguments = json.loads(call.function.arguments)
    check(call.id and call.type == "function" and call.function.name in ("weather", "now"), str(call))
    check(call.function.name == "now" and not arguments or isinstance(arguments["city"], str) and arguments["unit"] in "CF", str(call))


def tools_required(url):
    client = openai_client(url)
    r = client.chat.completions.create(model="local", messages=ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, max_tokens=200, temperature=0)
    check(r.choices[0].finish_reason == "tool_calls" and len(r.choices[0].message.tool_calls) == 1, str(r))
    check_call(r.choices[0].message.tool_calls[0])
    talk = ASK + [r.choices[0].message, {"role": "tool", "tool_call_id": r.choices[0].message.tool_calls[0].id, "content": "wet"}]
    r = client.chat.completions.create(model="local", messages=talk, tools=TOOLS, max_tokens=20, temperature=0)
    check(r.choices[0].message.role == "assistant", str(r))
    check_usage(r.usage)


def tools_named_and_none(url):
    client = openai_client(url)
    r = client.chat.completions.create(model="local", messages=ASK, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "weather"}}, max_tokens=200, temperature=1, seed=1)
    check([c.function.name for c in r.choices[0].message.tool_calls] == ["weather"], str(r))
    r = client.chat.completions.create(model="local", messages=ASK, tools=TOOLS, tool_choice="none", max_tokens=10, temperature=0)
    check(not r.choices[0].message.tool_calls and r.choices[0].finish_reason in ("stop", "length"), str(r))


def tools_stream(url):
    """The helper puts the deltas together and reads the arguments."""
    with openai_client(url).chat.completions.stream(model="local", messages=ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, max_tokens=200, temperature=0) as stream:
        events = [e.type for e in stream]
        final = stream.get_final_completion()
    check("tool_calls.function.arguments.done" in events, str(events))
    check_call(final.choices[0].message.tool_calls[0])
    check(final.choices[0].finish_reason == "tool_calls", str(final))


def tools_langchain(url):
    import pydantic
    from langchain_openai import ChatOpenAI

    class weather(pydantic.BaseModel):
        """Weather in a city"""
        city: str = pydantic.Field(description="its name", max_length=20)

    model = ChatOpenAI(base_url=url + "/v1", api_key="none", model="local", max_tokens=200, temperature=0, max_retries=0)
    r = model.bind_tools([weather], tool_choice="weather").invoke("What is the weather in Oslo?")
    check(r.tool_calls[0]["name"] == "weather" and isinstance(r.tool_calls[0]["args"]["city"], str), str(r))
    total = None
    for part in model.bind_tools([weather], tool_choice="required", parallel_tool_calls=False).stream("What is the weather in Oslo?"):
        total = part if total is None else total + part
    check(total.tool_calls[0]["name"] == "weather", str(total))
    r = model.with_structured_output(weather, method="json_schema").invoke("What is the weather in Oslo?")
    check(isinstance(r, weather), str(r))


def tools_litellm(url):
    import litellm as client
    client.suppress_debug_info = True
    r = client.completion(model="openai/local", api_base=url + "/v1", api_key="none", messages=ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, max_tokens=200, temperature=0)
    check_call(r.choices[0].message.tool_calls[0])


def openai_no_tools(url):
    import openai
    try:
        openai_client(url).chat.completions.create(model="local", messages=ASK, tools=TOOLS)
        raise AssertionError("tools were taken by a template that has none")
    except openai.BadRequestError as e:
        check(e.body["param"] == "tools" and "--chat-template" in e.body["message"], str(e.body))


def openai_budget(url):
    r = openai_client(url).chat.completions.create(model="local", messages=MESSAGES, max_tokens=200, temperature=0, extra_body={"max_joules": 0.05, "ignore_eos": True})
    check(r.usage.completion_tokens < 200, "the budget did not end the answer")


# ---- others -----------------------------------------------------------------------------------------------------------
def llm_logs_energy(url):
    """llm with an entry in extra-openai-models.yaml; what it logged has usage.energy."""
    with tempfile.TemporaryDirectory() as home:
        with open(os.path.join(home, "extra-openai-models.yaml"), "w") as f:
            f.write(f"- model_id: wattle\n  model_name: local\n  api_base: {url}/v1\n")
        command = lambda *words: subprocess.run([sys.executable, "-m", "llm", *words], env=dict(os.environ, LLM_USER_PATH=home, OPENAI_API_KEY="none"), capture_output=True, text=True, timeout=120)
        run = command("-m", "wattle", "-o", "max_tokens", "8", "Say hello.")
        check(run.returncode == 0 and run.stdout.strip(), run.stderr)
        logged = json.loads(command("logs", "--json").stdout)[0]
    energy = json.loads(logged["token_details"])["energy"]  # llm leaves nulls out
    check(energy["status"] == "unavailable" and energy["reason"] or energy["energy_joules"] > 0, str(energy)[:300])


def langchain(url):
    from langchain_openai import ChatOpenAI
    model = ChatOpenAI(base_url=url + "/v1", api_key="none", model="local", max_tokens=10, temperature=0, max_retries=0)
    r = model.invoke("Say hello.")
    check(r.content, str(r))
    check_energy(r.response_metadata["token_usage"]["energy"])
    parts = list(model.stream("Say hello.", stream_usage=True))
    check("".join(p.content for p in parts), "an empty stream")
    total = parts[0]
    for p in parts[1:]:
        total = total + p
    check(total.usage_metadata["output_tokens"] >= 1, str(total.usage_metadata))


def litellm(url):
    import litellm as client
    client.suppress_debug_info = True
    r = client.completion(model="openai/local", api_base=url + "/v1", api_key="none", messages=MESSAGES, max_tokens=10, temperature=0)
    check(r.choices[0].message.content, str(r))
    check_energy(usage_dict(r.usage)["energy"])
    chunks = list(client.completion(model="openai/local", api_base=url + "/v1", api_key="none", messages=MESSAGES, max_tokens=10, stream=True, stream_options={"include_usage": True}))
    check("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "an empty stream")


TESTS = [("openai", t) for t in (openai_sync, openai_cached, openai_stream, openai_stream_no_usage, openai_stream_helper, openai_completions, openai_logprobs, openai_errors, openai_async, openai_models, openai_json, openai_json_schema,
                               openai_json_schema_errors, openai_parse, openai_echo, openai_no_tools)] + \
        [("llm", llm_logs_energy), ("langchain_openai", langchain), ("litellm", litellm)]


TOOL_TESTS = [("openai", t) for t in (tools_required, tools_named_and_none, tools_stream)] + [("langchain_openai", tools_langchain), ("litellm", tools_litellm)]


def run(server, tests, only):
    try:
        for package, test in tests:
            if only not in test.__name__:
                continue
            if importlib.util.find_spec(package) is None:
                counts["skipped"] += 1
                print(f"skipped {test.__name__}: {package} is not installed")
                continue
            try:
                test(server.url)
                counts["passed"] += 1
                print(f"passed  {test.__name__}")
            except Exception:  # noqa: BLE001 a failing client is a failed test
                counts["failed"] += 1
                print(f"FAILED  {test.__name__}\n{traceback.format_exc()}")
    finally:
        server.stop()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--wattle", required=True)
    a.add_argument("--model", required=True)
    a.add_argument("--meter-args", default="", help="options for the server, such as --meter replay ...")
    a.add_argument("--only", default="", help="tests whose name holds this")
    o = a.parse_args()
    meter = shlex.split(o.meter_args)
    run(Server(o.wattle, o.model, meter), TESTS + ([("openai", openai_budget)] if "none" not in o.meter_args else []), o.only)
    run(Server(o.wattle, o.model, meter + ["--chat-template", HERMES]), TOOL_TESTS, o.only)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    sys.exit(counts["failed"] > 0)


if __name__ == "__main__":
    main()
