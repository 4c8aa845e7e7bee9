"""Stop paying twice: a response cache, prompt layout for the providers' prefix caches, and cached tokens made visible.

Importing this package loads no framework, no SDK and no store driver; each adapter lives in a module of
its own (`prefixcache_integrations.langchain`, …) and names the extra it needs.
"""
