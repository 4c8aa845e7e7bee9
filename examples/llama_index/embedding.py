"""An embedding that needs no model and no network: words, hashed to places in a vector."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter

from llama_index.core.embeddings import BaseEmbedding

SIZE = 512


class HashedWords(BaseEmbedding):
    """Texts are near to each other if they use the same words; the same text is the same vector everywhere."""

    def _get_text_embedding(self, text: str) -> list[float]:
        counts = Counter(zlib.crc32(word.encode()) % SIZE for word in re.findall(r"\w{3,}", text.lower()))
        length = math.sqrt(sum(count * count for count in counts.values())) or 1.0
        return [counts[place] / length for place in range(SIZE)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)
