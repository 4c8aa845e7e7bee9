"""Recorded calls to make reports of."""

import random
from decimal import Decimal

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.insight.prompt_runs import Run
from prefixcache_integrations.insight.recording import Break, RecordedCall

DISAGREEMENT = "the provider says tools_changed, and the first difference we find is system_changed at system[0].text"
HOSTILE = "</script><script>alert(1)</script>"


def run(group, tokens, marker=None):
    return Run(group=group, tokens=tokens, size=4 * tokens, digest="00", marker=marker)


def call(at=0.0, *, conversation="thread", prompt=None, read=0, written=0, uncached=0, output=10, **fields):
    prompt = prompt if prompt is not None else (run("system", 1_000, ""), run("question", 100))
    usage = Usage(
        input_tokens=read + written + uncached or sum(each.tokens for each in prompt),
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
    )
    given = {
        "outcome": "provider",
        "model": "claude-sonnet-4-6",
        "usage": usage,
        "cost": Decimal("0.01"),
        "uncached_cost": Decimal("0.04"),
        "seconds": 0.5,
    }
    return RecordedCall(at=1_795_000_000 + at, conversation=conversation, prompt=prompt, **given | fields)


def many(count, seed=7):
    """Return conversations of some turns each, some broken, some unknown, failed or from a cache."""
    made = random.Random(seed)  # noqa: S311 - the same calls for the same seed
    calls, turn, history = [], 0, 0
    for number in range(count):
        if turn == 0:
            left, history = made.randint(3, 12), 0
        turn = (turn + 1) % left
        prompt = (
            run("tools", 1_200),
            run("system", 2_400, ""),
            *((run("documents", 800),) if made.random() < 0.3 else ()),
            *((run("history", history, ""),) if history else ()),
            run("question", made.randint(30, 600), ""),
        )
        outcome = made.choices(["provider", "abandoned", "failed", "response_cache"], [90, 3, 3, 4])[0]
        broken = outcome == "provider" and history > 0 and made.random() < 0.1
        total = sum(each.tokens for each in prompt)
        read = 1_200 if broken else 3_600 if history else 0
        calls.append(
            call(
                number * 13.0,
                conversation=f"thread {number // 8} {HOSTILE if number < 3 else ''}",
                prompt=prompt,
                read=read,
                written=total - read - 40,
                uncached=40,
                outcome=outcome,
                model=made.choice(["claude-sonnet-4-6", "gpt-5.6-luna"]),
                cost=Decimal("0.0123") if outcome == "provider" else None,
                error="RateLimitError" if outcome == "failed" else None,
                broken=Break(
                    reason=made.choice(["system_changed", "tool_order_changed", "ttl_expired"]),
                    lost_tokens=2_400,
                    path="system[0].text",
                    offset=41,
                    lost_cost=Decimal("0.00828"),
                    remedy="keep the system prompt free of what changes",
                    provider_reason="tools_changed",
                    disagreement=DISAGREEMENT,
                )
                if broken
                else None,
            )
        )
        history += 300
    return calls
