"""Makes reports of requests as they are sent; what was told before of a text that has not changed is left out."""

from __future__ import annotations

from collections import OrderedDict

from msgspec.structs import replace

from prefixcache_integrations.prompt.reports import Report
from prefixcache_integrations.prompt.stability import Sighting, tenant_digest
from prefixcache_integrations.prompt.templates import Gap, Sentence, Template

TEXTS = 512
"""Of how many texts it is known what was told, at most."""

RETOLD = 32
"""After how many sightings a text is told in full again, to those who came later."""


class Reporter:
    """Reports requests in the order they were sent."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[bytes, bytes], tuple[Sentence | Gap, ...]] = OrderedDict()

    def report(self, sighting: Sighting, now: float, namespace: str) -> Report:
        """Return what to tell of a request of the tenant ``namespace`` that was sent at ``now``."""
        tenant = tenant_digest(namespace)
        return Report(
            tenant=tenant,
            at=now,
            steps=sighting.steps,
            documents=tuple(sighting.documents.items()),
            bill=sighting.bill,
            tools=sighting.tools,
            agent=sighting.agent,
            cache_key=None if sighting.route is None else sighting.route.key,
            previous=sighting.previous,
            instead=sighting.instead,
            as_it_came=sighting.as_it_came,
            texts=tuple(self._news(tenant, text.template) for text in sighting.texts),
            places=sighting.places,
        )

    def _news(self, tenant: bytes, template: Template) -> Template:
        name = (tenant, template.name)
        if self._told.get(name) == template.pieces and template.sightings % RETOLD:
            return replace(template, pieces=())
        self._told[name] = template.pieces
        self._told.move_to_end(name)
        if len(self._told) > TEXTS:
            self._told.popitem(last=False)
        return template
