# ruff: noqa: E501 — one mistake per line reads as the table it is
"""Every way to get a sweep file wrong: each is refused with its place, and nothing is written.

A case replaces one piece of a working file. `§` marks where the message must point to; it is taken
out before the file is written.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweeper.errors import ConfigError, DataError, SweeperError
from sweeper.planning.planner import plan_sweep
from sweeper.sweepfile.schema import load_sweep

WORKING = """\
name: tiny
corpus: {source: "synthetic:iid?tokens=40000", seq_len: 16}
series:
  ar: {family: ar}
  masked: {family: masked}
design:
  isoflop:
    budgets: [1e10, 1e11]
    sizes: [5K, 10K, 20K]
train: {batch_tokens: 256}
evaluation: {sequences: 64}
limits: {flops: 1e15}
"""

ISOFLOP = """  isoflop:
    budgets: [1e10, 1e11]
    sizes: [5K, 10K, 20K]
"""


@dataclass(frozen=True)
class Broken:
    """One mistake: what replaces a piece of the working file, and words the message must have."""

    name: str
    old: str
    new: str
    found: str
    hint: str
    error: type[SweeperError] = ConfigError


def tune(keys: str) -> str:
    """A search at a small cell."""
    return f"tune: {{{keys}, at: {{size: 10K, tokens: 100K}}}}\nlimits:"


CASES = [
    # names and keys
    Broken("no name", "name: tiny\n", "", "no 'name'", "expected the key 'name'"),
    Broken("unknown key", "limits:", "§extra: 1\nlimits:", "unknown key 'extra'", "expected one of"),
    Broken("misspelt key", "budgets:", "§budgest:", "'budgest'", "did you mean 'budgets'?"),
    Broken("misspelt section", "train:", "§trian:", "'trian'", "did you mean 'train'?"),
    Broken("duplicate key", "limits:", "§name: other\nlimits:", "duplicate key 'name'", ":1:1"),
    Broken("vocabulary of a series", "family: masked", "family: masked, §vocab_size: 9", "unknown key 'vocab_size'", "the corpus says it"),
    Broken("text for a number", "family: masked", "family: hybrid, per_token_share: §20%", "found 20%", "per_token_share '20%': expected a number"),

    Broken("duplicate label", "masked: {", "§ar: {", "duplicate key 'ar'", ":4:3"),
    Broken("path in name", "tiny", "§../elsewhere", "../elsewhere", "did you mean 'elsewhere'?"),
    Broken("absolute name", "tiny", "§/tmp/x", "/tmp/x", "letters, digits, hyphens"),
    Broken("dots as name", "tiny", "§..", "..", "a letter, then"),
    Broken("name of spaces", "tiny", "§my sweep", "my sweep", "did you mean 'my-sweep'?"),
    Broken("accents in name", "tiny", "§café", "café", "did you mean 'cafe'?"),
    Broken("number as name", "tiny", "§2024", "2024", "a letter, then"),
    Broken("empty name", "tiny", '§""', "''", "a letter, then"),
    Broken("endless name", "tiny", "§" + "n" * 500, "nnn…", "up to 63"),
    Broken("truth as name", "tiny", "§on", "on", "truth value"),
    # corpus
    Broken("no corpus key", "source:", "§sources:", "'sources'", "did you mean 'source'?"),
    Broken("corpus as text", '{source: "synthetic:iid?tokens=40000", seq_len: 16}', "§stdlib", "stdlib", "mapping with the keys source, seq_len"),
    Broken("missing corpus", '"synthetic:iid?tokens=40000"', "§path:no/such/folder", "no/such/folder", "path:no/such/folder", DataError),
    Broken("unknown corpus", '"synthetic:iid?tokens=40000"', "§stdlb", "stdlb", "stdlib", DataError),
    Broken("number as corpus", '"synthetic:iid?tokens=40000"', "§7", "7", "expected text"),
    Broken("tokenizer of no text", "seq_len: 16", "seq_len: 16, §tokenizer: gpt2", "the key 'tokenizer'", "for path: or hf: alone: leave it out"),
    Broken("column of no table", "seq_len: 16", "seq_len: 16, §text_column: body", "the key 'text_column'", "leave it out"),
    Broken("cap of a text", "seq_len: 16", "seq_len: 16, §max_tokens: 1M", "the key 'max_tokens'", "for hf: alone"),
    Broken("tokenizer misspelt", "seq_len: 16", "seq_len: 16, §tokeniser: gpt2", "'tokeniser'", "did you mean 'tokenizer'?"),
    Broken("tokenizer by number", "seq_len: 16", "seq_len: 16, tokenizer: §7", "7", "expected text"),
    Broken("empty tokenizer", "seq_len: 16", "seq_len: 16, tokenizer: §''", "''", "expected some text"),
    Broken("seq_len 0", "seq_len: 16", "seq_len: §0", "0", "at least 2"),
    Broken("seq_len 1", "seq_len: 16", "seq_len: §1", "1", "at least 2"),
    Broken("seq_len 2.5", "seq_len: 16", "seq_len: §2.5", "2.5", "a whole number"),
    Broken("seq_len on", "seq_len: 16", "seq_len: §on", "on", "true or false"),
    Broken("seq_len percent", "seq_len: 16", "seq_len: §20%", "20%", "not a percentage"),
    Broken("seq_len absurd", "seq_len: 16", "seq_len: §1e12", "1e12", "at most 1,000,000"),
    Broken("seq_len over corpus", "seq_len: 16", "seq_len: §100K", "100K", "training tokens"),
    Broken("seq_len null", "seq_len: 16", "seq_len: §~", "nothing", "expected a number"),
    # series
    Broken("no series", "  ar: {family: ar}\n  masked: {family: masked}\n", "  §{}\n", "an empty mapping", "at least one label"),
    Broken("series as list", "  ar: {family: ar}\n  masked: {family: masked}\n", "  §[ar, masked]\n", "a list", "expected a mapping"),
    Broken("unknown family", "family: masked", "family: §maskd", "maskd", "did you mean 'masked'?"),
    Broken("no family", "{family: masked}", "§{}", "no 'family'", "expected the key 'family'"),
    Broken("family as list", "family: masked", "family: §[masked]", "a list", "expected text"),
    Broken("unknown option", "family: masked", "family: masked, §objektive: nelbo", "'objektive'", "did you mean 'objective'?"),
    Broken("option of another family", "{family: ar}", "{family: ar, §shift: 0}", "'shift'", "no option 'shift'"),
    Broken("train among options misspelt", "family: masked", "family: masked, §trian: {}", "'trian'", "did you mean 'train'?"),
    Broken("list as option", "family: masked", "family: hybrid, shift: §[1]", "a list", "shift"),
    Broken("refused option", "family: masked", "family: masked, objective: §elbo", "elbo", "expected nelbo"),
    Broken("option of a wrong type", "family: masked", "family: hybrid, shift: §on", "on", "shift"),
    Broken("truth as option", "family: masked", "family: hybrid, shift: §true", "true", "expected a number"),
    Broken("infinite option refused", "family: masked", "family: hybrid, scale: §.inf", ".inf", "scale"),
    Broken("option NaN", "family: masked", "family: hybrid, shift: §.nan", ".nan", "shift"),
    Broken("number as label", "  masked: {", "  §1e3: {", "1e3", "a letter, then"),
    Broken("no as label", "  masked: {", "  §no: {", "no", "truth value"),
    Broken("null as label", "  masked: {", "  §null: {", "null", "or null"),
    Broken("twins", "{family: masked}", "{family: masked}\n  §copy: {family: masked}", "'copy'", "the same trials as series 'masked'"),
    Broken("twins by default", "{family: masked}", "{family: masked}\n  §copy: {family: masked, objective: nelbo}", "copy", "the same trials"),
    Broken("series train typo", "family: masked", "family: masked, train: {§seed: [1]}", "'seed'", "did you mean 'seeds'?"),
    # design
    Broken("no design", "design:\n" + ISOFLOP, "", "no 'design'", "expected the key 'design'"),
    Broken("empty design", ISOFLOP, "  §{}\n", "an empty mapping", "isoflop, grid, zip, list"),
    Broken("two designs", ISOFLOP, ISOFLOP + "  §grid: {sizes: [5K], tokens: [1M]}\n", "grid", "a second design beside isoflop"),
    Broken("auto without a total", ISOFLOP, "  auto: §{first_round: 1}\n", "a mapping", "expected one of total_flops, gpu_hours"),
    Broken("auto with two totals", ISOFLOP, "  auto: {total_flops: 1e13, §gpu_hours: 2}\n", "gpu_hours", "a second total beside total_flops"),
    Broken("auto of money alone", ISOFLOP, "  auto: §{money: 30}\n", "a mapping", "price_per_gpu_hour together"),
    Broken("auto of too little", ISOFLOP, "  auto: §{total_flops: 1e7}\n", "a mapping", "expected at least"),
    Broken("only added runs", ISOFLOP, "  §added: [{series: ar, size: 5K, budgets: 1e10}]\n", "a mapping", "expected exactly one of"),
    Broken("added to no series", ISOFLOP, ISOFLOP + "  added: [{series: §arr, size: 5K, budgets: 1e10}]\n", "found arr", "did you mean 'ar'?"),
    Broken("added without length", ISOFLOP, ISOFLOP + "  added: [§{series: ar, size: 5K}]\n", "a mapping", "either budgets or tokens"),
    Broken("question about nothing", "train:", "ask: §{interval: multiplier}\ntrain:", "a mapping", "expected the key 'baseline'"),
    Broken("question about itself", "train:", "ask: {interval: multiplier, baseline: ar, against: §ar}\ntrain:", "'ar'", "another series than 'ar'"),
    Broken("question about a stranger", "train:", "ask: {interval: loss, series: §maske}\ntrain:", "found maske", "did you mean 'masked'?"),
    Broken("question about too many", "train:", "ask: {interval: loss, series: ar, baseline: §masked}\ntrain:", "found masked", "leave it out"),
    Broken("interval of no width", "train:", "ask: {interval: loss, series: ar, within: §1}\ntrain:", "1", "more than 1"),
    Broken("unknown design", "isoflop:", "§isoflops:", "'isoflops'", "did you mean 'isoflop'?"),
    Broken("null design", ISOFLOP, "  §isoflop:\n", "isoflop", "expected the sizes"),
    Broken("negative budget", "[1e10, 1e11]", "[§-1e10, 1e11]", "-1e10", "at least 1"),
    Broken("zero budget", "[1e10, 1e11]", "[§0, 1e11]", "0", "at least 1"),
    Broken("NaN budget", "[1e10, 1e11]", "[§.nan, 1e11]", ".nan", "finite"),
    Broken("infinite budget", "[1e10, 1e11]", "[1e10, §.inf]", ".inf", "finite"),
    Broken("absurd budget", "[1e10, 1e11]", "[1e10, §1e99]", "1e99", "at most 1e+40"),
    Broken("overflowing budget", "[1e10, 1e11]", "[1e10, §1e999]", "1e999", "finite"),
    Broken("huge budget", "[1e10, 1e11]", "[1e10, §1e38]", "1e38", "at most 1e+18"),
    Broken("budget of words", "[1e10, 1e11]", "[1e10, §lots]", "lots", "a number such as 1e15"),
    Broken("sexagesimal budget", "[1e10, 1e11]", "[§12:30, 1e11]", "12:30", "base 60"),
    Broken("octal budget", "[1e10, 1e11]", "[§010, 1e11]", "010", "octal"),
    Broken("hexadecimal budget", "[1e10, 1e11]", "[§0x10, 1e11]", "0x10", "decimal"),
    Broken("budget with spaces", "[1e10, 1e11]", "[§10 G, 1e11]", "10 G", "without the space"),
    Broken("budget with commas", "[1e10, 1e11]", '[§"10,000,000,000"]', "10,000,000,000", "commas"),
    Broken("truth as budget", "[1e10, 1e11]", "[§yes, 1e11]", "yes", "true or false"),
    Broken("null budget", "[1e10, 1e11]", "[§null, 1e11]", "nothing", "expected a number"),
    Broken("one budget", "[1e10, 1e11]", "§1e10", "1e10", "expected a list"),
    Broken("no budgets", "[1e10, 1e11]", "§[]", "an empty list", "at least one entry"),
    Broken("budgets as mapping", "[1e10, 1e11]", "§{low: 1e10}", "a mapping", "expected a list"),
    Broken("budgets in lists", "[1e10, 1e11]", "[§[1e10], 1e11]", "a list", "a number such as"),
    Broken("duplicated budget", "[1e10, 1e11]", "[1e10, 1e11, §10G]", "10G", "entry 0"),
    Broken("budget of 3 steps", "[1e10, 1e11]", "[§3e7, 1e11]", "3e7", "steps of 256 tokens"),
    Broken("budgets too close", "[1e10, 1e11]", "[1e11, §1.00001e11]", "1.00001e11", "leave one out"),
    Broken("unreachable size", "[5K, 10K, 20K]", "[§100, 10K]", "100", "expected a neighbour, 1,720"),
    Broken("ends too close", "[1e10, 1e11]\n    sizes: [5K, 10K, 20K]\ntrain: {batch_tokens: 256}", "[1e11, §1.00001e11]\n    sizes: [5K, 10K, 20K]\ntrain: {batch_tokens: 256, schedule: wsd}", "1.00001e11", "leave one out"),
    Broken("size beyond the ladder", "[5K, 10K, 20K]", "[5K, §900T]", "900T", "a neighbour"),
    Broken("negative size", "[5K, 10K, 20K]", "[§-5K, 10K]", "-5K", "above 0"),
    Broken("size in lower case", "[5K, 10K, 20K]", "[5K, §10m]", "10m", "M for millions"),
    Broken("duplicated size", "[5K, 10K, 20K]", "[20K, 5K, §19K]", "19K", "entry 0"),
    Broken("size without heads", "[5K, 10K, 20K]", "[§{layers: 2, width: 16}]", "'heads'", "layers, width"),
    Broken("size of odd width", "[5K, 10K, 20K]", "[§{layers: 2, width: 15, heads: 2}]", "a mapping", "even multiple"),
    Broken("size of 0 layers", "[5K, 10K, 20K]", "[§{layers: 0, width: 16, heads: 2}]", "a mapping", "at least 1"),
    Broken("size of unknown keys", "[5K, 10K, 20K]", "[{layers: 2, §with: 16, heads: 2}]", "with", "did you mean 'width'?"),
    Broken("size of half heads", "[5K, 10K, 20K]", "[{layers: 2, width: 16, heads: §0.5}]", "0.5", "a whole number"),
    Broken("gigantic size", "[5K, 10K, 20K]", "[§{layers: 900, width: 1000000, heads: 2}]", "a mapping", "at most 1e+13"),
    Broken("window of one", "[5K, 10K, 20K]", "[5K]\n    tokens_per_param: §[5]", "a list", "two numbers"),
    Broken("window upside down", "[5K, 10K, 20K]", "[5K]\n    tokens_per_param: §[9, 5]", "a list", "low < high"),
    Broken("window without cells", "[5K, 10K, 20K]", "[5K]\n    tokens_per_param: §[1e8, 1e9]", "a list", "leaves no cell"),
    Broken("unbracketed minima", "[5K, 10K, 20K]", "[5K]\n    on_unbracketed: §proposes", "found proposes", "'warn', 'propose' or 'extend'"),
    Broken("zip of two lengths", ISOFLOP, "  zip: {sizes: [5K, 10K], tokens: §[1M]}\n", "a list", "2 entries"),
    Broken("zip twice the same", ISOFLOP, "  zip: {sizes: [5K, 5K], tokens: [1M, §1000K]}\n", "1000K", "entry 0"),
    Broken("grid of half tokens", ISOFLOP, "  grid: {sizes: [5K], tokens: [§1.5]}\n", "1.5", "a whole number"),
    Broken("tokens below a batch", ISOFLOP, "  grid: {sizes: [5K], tokens: [§100, 1M]}\n", "100", "0 steps of 256 tokens"),
    Broken("list of an unknown series", ISOFLOP, "  list: [{size: 5K, tokens: 1M, series: §maskd}]\n", "maskd", "did you mean 'masked'?"),
    Broken("list without tokens", ISOFLOP, "  list: [§{size: 5K}]\n", "a mapping", "'tokens'"),
    Broken("list without sizes", ISOFLOP, "  list: [§{steps: 100}]\n", "a mapping", "'sizes'"),
    Broken("list of tokens and steps", ISOFLOP, "  list: [{size: 5K, tokens: 1M, §steps: 100}]\n", "the key 'steps'", "beside tokens"),
    Broken("list of size and sizes", ISOFLOP, "  list: [{size: 5K, §sizes: [10K], steps: 100}]\n", "the key 'sizes'", "beside size"),
    Broken("list of sizes twice", ISOFLOP, "  list: [{sizes: [5K, §5K], steps: 100}]\n", "5K", "the same model"),
    Broken("list of two unknown series", ISOFLOP, "  list: [{size: 5K, tokens: 1M, series: [ar, §maskd]}]\n", "maskd", "did you mean 'masked'?"),
    Broken("few steps", ISOFLOP, "  list: [{size: 5K, steps: §49}]\n", "49", "at least 50"),
    Broken("steps of sizes as list", ISOFLOP, "  list: [{steps_by_size: §[5K]}]\n", "a list", "mapping from sizes"),
    Broken("steps of one size as text", ISOFLOP, "  list: [{steps_by_size: {5K: §many}}]\n", "many", "expected a number"),
    Broken("steps of an unknown size", ISOFLOP, "  list: [{steps_by_size: {5K: 100, §sahoo-47M: 100}}]\n", "sahoo-47M", "sahoo-48M"),
    Broken("published size misspelt", ISOFLOP, "  list: [{size: §gidd-26M, steps: 100}]\n", "gidd-26M", "gidd-25M"),
    Broken("entry with a batch of parts", ISOFLOP, "  list: [{size: 5K, steps: 100, train: {batch_tokens: §40}}]\n", "40", "whole sequences of 16"),
    Broken("entry with an unknown key", ISOFLOP, "  list: [{size: 5K, steps: 100, train: {§batch: 64}}]\n", "batch", "batch_tokens"),
    Broken("entry with a long warmup", ISOFLOP, "  list: [{size: 5K, steps: 100, train: {warmup: §100}}]\n", "100", "first observed"),
    Broken("prefixes of a causal family", "{batch_tokens: 256}", "{batch_tokens: 256, prefix_share: §20%}", "20%", "series 'ar'"),
    Broken("prefixes of more than all", "batch_tokens: 256", "prefix_share: §120%", "120%", "from 0 to 1"),
    Broken("warmup without a least", "batch_tokens: 256", "warmup: §{share: 1%}", "a mapping", "at_least"),
    Broken("warmup of no share", "batch_tokens: 256", "warmup: {share: §0, at_least: 10}", "0", "more than 0"),
    Broken("warmup key misspelt", "batch_tokens: 256", "warmup: {§shre: 1%, at_least: 10}", "shre", "did you mean 'share'"),
    Broken("warmup share of a short run", "batch_tokens: 256", "warmup: §{share: 1%, at_least: 5M}", "a mapping", "first observed"),
    Broken("negative embedding ratio", "batch_tokens: 256", "embedding_learning_rate_ratio: §-1", "-1", "more than 0"),
    Broken("steps of an unsaid batch", ISOFLOP, "  list: [{size: 5K, steps: §100, train: {batch_tokens: auto}}]\n", "100", "train.batch_tokens"),
    Broken("list twice the same", ISOFLOP, "  list:\n  - {size: 5K, tokens: 1M}\n  - {size: 5K, tokens: §1M, series: ar}\n", "1M", "the same 3,906 steps"),
    Broken("empty list", ISOFLOP, "  list: §[]\n", "an empty list", "at least one"),
    # train
    Broken("train as list", "{batch_tokens: 256}", "§[1]", "a list", "mapping with the keys"),
    Broken("train empty", "train: {batch_tokens: 256}", "§train:", "nothing", "mapping with the keys"),
    Broken("batch of zero", "batch_tokens: 256", "batch_tokens: §0", "0", "at least 1, or auto"),
    Broken("batch below a sequence", "batch_tokens: 256", "batch_tokens: §5", "5", "such as 16"),
    Broken("batch between sequences", "batch_tokens: 256", "batch_tokens: §24", "24", "16 or 32"),
    Broken("automatic misspelt", "batch_tokens: 256", "batch_tokens: §atuo", "atuo", "or auto"),
    Broken("negative rate", "batch_tokens: 256", "learning_rate: §-3e-4", "-3e-4", "more than 0"),
    Broken("rate of zero", "batch_tokens: 256", "learning_rate: §0", "0", "more than 0"),
    Broken("huge rate", "batch_tokens: 256", "learning_rate: §3e4", "3e4", "at most 1000"),
    Broken("unknown schedule", "batch_tokens: 256", "schedule: §linear", "linear", "'constant', 'cosine' or 'wsd'"),
    Broken("unknown optimiser", "batch_tokens: 256", "optimizer: §adam", "adam", "'adamw', 'laprop' or 'muon'"),
    Broken("cooldown of constant", "batch_tokens: 256", "cooldown: §20%", "20%", "only wsd has a cooldown"),
    Broken("cooldown of cosine", "batch_tokens: 256", "schedule: cosine, cooldown: §20%", "20%", "of schedule cosine"),
    Broken("minimum of constant", "batch_tokens: 256", "min_learning_rate_ratio: §0.1", "0.1", "only cosine has"),
    Broken("minimum of wsd", "batch_tokens: 256", "schedule: wsd, min_learning_rate_ratio: §0.1", "0.1", "of schedule wsd"),
    Broken("cooldown of one series", "{family: masked}", "{family: masked, train: {cooldown: §10%}}", "10%", "for series 'masked' of schedule constant"),
    Broken("cooldown of zero", "batch_tokens: 256", "schedule: wsd, cooldown: §0", "0", "more than 0 and less than 1, such as 20%, or auto"),
    Broken("cooldown of all", "batch_tokens: 256", "schedule: wsd, cooldown: §100%", "100%", "less than 1"),
    Broken("cooldown in steps", "batch_tokens: 256", "schedule: wsd, cooldown: §500", "500", "such as 20%"),
    Broken("minimum above the peak", "batch_tokens: 256", "schedule: cosine, min_learning_rate_ratio: §2", "2", "less than 1"),
    Broken("cooldown and warmup too long", "batch_tokens: 256", "batch_tokens: 256, schedule: wsd, cooldown: §95%", "95%", "steps of cooldown after"),
    Broken("cosine all warmup", "batch_tokens: 256", "batch_tokens: 256, schedule: cosine, warmup: §1M", "1M", "first observed"),
    Broken("group rate of dit", "train: {batch_tokens: 256}", "backbone: dit\ntrain: {batch_tokens: 256, auxiliary_learning_rate: §1e-3}", "1e-3", "trains all tensors at train.learning_rate"),
    Broken("embedding ratio of dit", "train: {batch_tokens: 256}", "backbone: dit\ntrain: {embedding_learning_rate_ratio: §1}", "1", "for the backbone dit"),
    Broken("clipping at zero", "batch_tokens: 256", "clip_norm: §0", "0", "more than 0, or none"),
    Broken("clipping null", "batch_tokens: 256", "clip_norm: §~", "nothing", "or none"),
    Broken("clipping misspelt", "batch_tokens: 256", "clip_norm: §off", "off", "or none"),
    Broken("averaging of one", "batch_tokens: 256", "ema: §1", "1", "less than 1"),
    Broken("averaging misspelt", "batch_tokens: 256", "§emma: 0.99", "'emma'", "did you mean 'ema'?"),
    Broken("warmup share", "batch_tokens: 256", "warmup: §10%", "10%", "not a percentage, or auto"),
    Broken("long warmup", "batch_tokens: 256", "batch_tokens: 256, warmup: §1M", "1M", "first observed"),
    Broken("seeds as number", "batch_tokens: 256", "seeds: §3", "3", "expected a list"),
    Broken("no seeds", "batch_tokens: 256", "seeds: §[]", "an empty list", "at least one entry"),
    Broken("seeds twice", "batch_tokens: 256", "seeds: [1, 0, §1]", "1", "entry 0"),
    Broken("negative seed", "batch_tokens: 256", "seeds: [§-1]", "-1", "at least 0"),
    Broken("huge seed", "batch_tokens: 256", "seeds: [§1e15]", "1e15", "at most"),
    Broken("three betas", "batch_tokens: 256", "betas: §[0.9, 0.9, 0.9]", "a list", "two numbers"),
    Broken("percent out of range", "batch_tokens: 256", "betas: [90%, §150%]", "150%", "less than 1"),
    Broken("negative decay", "batch_tokens: 256", "weight_decay: §-0.1", "-0.1", "at least 0"),
    Broken("unknown precision", "batch_tokens: 256", "precision: §fp8", "fp8", "'bfloat16'"),
    # keep
    Broken("keep misspelt", "limits:", "keep: §optimum\nlimits:", "optimum", "did you mean 'optimal'?"),
    Broken("kept models misspelt", "limits:", "keep: {models: §best}\nlimits:", "best", "'optimal', 'all' or 'none'"),
    Broken("kept without a unit that is known", "limits:", "keep: {at_most: §2XB}\nlimits:", "2XB", "such as 500MB or 24GiB"),
    Broken("kept models unknown key", "limits:", "keep: {§bytes: 2GB}\nlimits:", "'bytes'", "at_most"),
    # tune
    Broken("search of nothing", "limits:", tune("search: §{}"), "an empty mapping", "at least one setting"),
    Broken("search misspelt", "limits:", tune("search: {§weigth_decay: {log: [1e-3, 1]}}"), "'weigth_decay'", "did you mean 'weight_decay'?"),
    Broken("search of an option of one series", "limits:", tune("search: {§objective: {choices: [nelbo]}}"), "'objective'", "an option of all of the series"),
    Broken("search of a misspelt option", "limits:", tune("search: {§objectiv: {choices: [nelbo]}}, series: masked"), "'objectiv'", "did you mean 'objective'?"),
    Broken("search of seeds", "limits:", tune("search: {§seeds: {choices: [[0]]}}"), "'seeds'", "expected one of batch_tokens"),
    Broken("search without a cell", "limits:", "tune: §{search: {ema: {range: [0, 0.9]}}}\nlimits:", "a mapping", "expected the key 'at'"),
    Broken("search of an unknown size", "limits:", tune("search: {ema: {range: [0, 0.9]}}").replace("10K", "§100"), "100", "a neighbour"),
    Broken("search of an unknown series", "limits:", tune("search: {ema: {range: [0, 0.9]}}, series: [ar, §maskd]"), "maskd", "did you mean 'masked'?"),
    Broken("search of a refused end", "limits:", tune("search: {ema: {range: [0, §1]}}"), "1", "less than 1"),
    Broken("search of a refused choice", "limits:", tune("search: {betas: {choices: [[0.9, 0.99], §[0.9]]}}"), "a list", "two numbers"),
    Broken("search of what a family refuses", "limits:", tune("search: {objective: {choices: [nelbo, §elbo]}}, series: [masked]"), "elbo", "expected nelbo"),
    Broken("search of twice the same", "limits:", tune("search: {betas: {choices: [[0.9, 0.99], §[0.9, 0.99]]}}"), "a list", "entry 0"),
    Broken("search upside down", "limits:", tune("search: {ema: {range: §[0.9, 0]}}"), "a list", "low < high"),
    Broken("search of the logarithm of zero", "limits:", tune("search: {weight_decay: {log: [§0, 1]}}"), "0", "above 0"),
    Broken("search in no way", "limits:", tune("search: {ema: §{}}"), "an empty mapping", "exactly one of log, range and choices"),
    Broken("search in two ways", "limits:", tune("search: {ema: {log: [0.1, 0.9], §range: [0, 0.9]}}"), "the key 'range'", "exactly one"),
    Broken("search in an unknown way", "limits:", tune("search: {ema: {§rnage: [0, 0.9]}}"), "'rnage'", "did you mean 'range'?"),
    Broken("unknown sampler", "limits:", tune("search: {ema: {range: [0, 0.9]}}, sampler: §tpa"), "tpa", "'tpe'"),
    Broken("one range for CMA-ES", "limits:", tune("search: {ema: {range: [0, 0.9]}}, sampler: §cmaes"), "cmaes", "at least 2"),
    Broken("two series for CMA-ES", "limits:", tune("search: {ema: {range: [0, 0.9]}, weight_decay: {range: [0, 1]}}, sampler: §cmaes"), "cmaes", "expected gp"),
    Broken("search of a hexagon", "limits:", tune("search: {ema: {range: [0, 0.9]}}, §radius: 2"), "the key 'radius'", "beside search"),
    Broken("trials without a search", "limits:", "tune: {§trials: 7}\nlimits:", "the key 'trials'", "expected search beside it"),
    Broken("no trials", "limits:", tune("search: {ema: {range: [0, 0.9]}}, trials: §0"), "0", "at least 1"),
    # the rest
    Broken("no evaluation", "sequences: 64", "sequences: §0", "0", "at least 4"),
    Broken("evaluation too large", "sequences: 64", "sequences: §1M", "1M", "holds"),
    Broken("three halves of a GPU", "limits:", "resources: {gpus: §1.5}\nlimits:", "1.5", "share"),
    Broken("GPUs of no", "limits:", "resources: {gpus: §no}\nlimits:", "no", "true or false, or auto"),
    Broken("no CPU", "limits:", "resources: {cpus: §0}\nlimits:", "0", "more than 0, or auto"),
    Broken("negative GPUs", "limits:", "resources: {gpus: §-1}\nlimits:", "-1", "at least 0, or auto"),
    Broken("wall without unit", "flops: 1e15", "wall: §7200", "7200", "90s, 15m, 12h"),
    Broken("wall as a clock", "flops: 1e15", "wall: §12:30", "12:30", "base 60"),
    Broken("wall of zero", "flops: 1e15", "wall: §0s", "0s", "more than 0"),
    Broken("no time at all", "flops: 1e15", "device_hours: §0", "0", "more than 0"),
    Broken("cost without price", "flops: 1e15", "cost: §60", "60", "resources.price_per_hour"),
    Broken("negative price", "limits:", "resources: {price_per_hour: §-1}\nlimits:", "-1", "at least 0"),
    Broken("low limit", "flops: 1e15", "flops: §1e11", "1e11", "fits, 6 trials, 6e+10 FLOPs: --set design.isoflop.budgets=[1e+10]"),
    Broken("lowest limit", "flops: 1e15", "flops: §1e9", "1e9", "not even its smallest run fits"),
    Broken("few trials", "flops: 1e15", "trials: §3", "3", "the plan has 6"),
    Broken("description as list", "name: tiny", "name: tiny\ndescription: §[a]", "a list", "text"),
    # YAML itself
    Broken("unclosed bracket", "[1e10, 1e11]", "[1e10, 1e11", "not valid YAML", ":8:14"),
    Broken("tab", "  isoflop:", "§\tisoflop:", "not valid YAML", "not tabs"),
    Broken("unclosed quote", "tiny", "'tiny", "not valid YAML", ":1:7"),
    Broken("alias from nowhere", "[1e10, 1e11]", "§*budgets", "*budgets", "no anchor"),
    Broken("recursive alias", "[1e10, 1e11]", "&b [1e10, §*b]", "*b", "inside the value"),
    Broken("tag", "tiny", "§!!python/name:os.system", "the tag", "without a tag"),
    Broken("merge key", "{family: masked}", "{§<<: {family: masked}}", "merge keys", "write the keys out"),
    Broken("list as key", "{family: masked}", "{§[a, b]: masked}", "a key with parts", "key: value"),
    Broken("second document", "limits:", "---\nlimits:", "a second document", "one per file"),
    Broken("deep nesting", "[1e10, 1e11]", "[" * 60 + "]" * 60, "nested deeper", "20 levels"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_mistake_is_refused_with_its_place(
    case: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert WORKING.count(case.old) == 1
    text = WORKING.replace(case.old, case.new)
    place = where(text)
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(text.replace("§", ""))
    with pytest.raises(case.error) as caught:
        plan_sweep(load_sweep(Path("x.yaml")), bfloat16_from_width=math.inf)
    message = str(caught.value)
    assert f"x.yaml:{place}" in message
    assert case.found in message
    assert case.hint in message
    assert "^" in message
    assert [*tmp_path.iterdir()] == [tmp_path / "x.yaml"]


def where(text: str) -> str:
    """`line:column` of the mark, or the beginning of a place that has none."""
    if "§" not in text:
        return ""
    before = text[: text.index("§")]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}  "


def test_the_working_file_works(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(WORKING)
    assert len(plan_sweep(load_sweep(path), bfloat16_from_width=math.inf).trials) == 6
