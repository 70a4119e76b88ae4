//! What is remembered from one command to the next, beside the cache.
