"""The fixed task: corpus, tokenizer, shards, harness and evaluation. No experiment may change it."""
