#!/usr/bin/env python3
"""Real clients against a real server: openai (sync, async, streams, errors), llm, langchain-openai, litellm. Each must read the energy.

  clients_test.py --wattle build/wattle --model MODEL.gguf [--meter-args "--meter replay --replay trace.csv"]

Run it with a Python that has the clients (python3 -m venv V && V/bin/pip install openai llm langchain-openai litellm); a client that is
missing is skipped with a sentence. Starts a server on a free port of loopback, ends it by its process id. Last line: counts.
SPDX-License-Identifier: Apache-2.0
"""
import argparse, asyncio, importlib.util, json, os, re, shlex, signal, subprocess, sys, tempfile, threading, traceback

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


TESTS = [("openai", t) for t in (openai_sync, openai_cached, openai_stream, openai_stream_no_usage, openai_stream_helper, openai_completions, openai_logprobs, openai_errors, openai_async, openai_models, openai_json)] + \
        [("llm", llm_logs_energy), ("langchain_openai", langchain), ("litellm", litellm)]


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--wattle", required=True)
    a.add_argument("--model", required=True)
    a.add_argument("--meter-args", default="", help="options for the server, such as --meter replay ...")
    a.add_argument("--only", default="", help="tests whose name holds this")
    o = a.parse_args()
    server = Server(o.wattle, o.model, shlex.split(o.meter_args))
    try:
        for package, test in TESTS + ([("openai", openai_budget)] if "none" not in o.meter_args else []):
            if o.only not in test.__name__:
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
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    sys.exit(counts["failed"] > 0)


if __name__ == "__main__":
    main()
