"""What names say: which way a metric is better, and what belongs to the data, the evaluation or the cost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MORE = _set(
    """
    acc accuracy f fbeta auc auroc auprc roc ap map ndcg dcg mrr hit hits precision prec recall
    sensitivity specificity tpr tnr score scores r pearson spearman kendall corr correlation bleu rouge
    meteor chrf bertscore reward rewards return returns iou miou dice jaccard kappa mcc silhouette
    calinski harabasz elo rating win wins winrate pass passes passed success successes solved correct
    throughput speed speedup fps qps tps rps mfu utilization efficiency bandwidth goodput gflops tflops
    mips likelihood loglik loglikelihood elbo evidence psnr ssim snr sisdr gain lift coverage purity nmi
    ami ari modularity profit revenue sharpe yield quality fitness utility agreement exact em top hv
    hypervolume
    """
)
_LESS = _set(
    """
    loss losses error errors err bpb bpc bpd nll perplexity ppl rmse mse mae mape smape rmsle msle
    logloss crossentropy entropy xent cost costs distance wer cer ter per fid kid lpips brier ece mce
    regret divergence kl jsd hinge deviance aic bic violations fpr fnr fdr eer hamming bouldin miss
    misses failed failures fail failure crashes residual deviation bias variance penalty risk drift lag
    delay jitter overhead instructions cycles faults bytes bits energy joules watts power emissions co
    moves collisions mistakes
    """
)
_WEAK = _set("score scores value rate")  # of a Brier score and an error rate the other word says it
_TIME = _set(
    """
    seconds second secs sec s ms us ns minutes minute hours hour time times latency duration runtime
    elapsed walltime wall cpu
    """
)
_MEMORY = _set("memory mem ram vram rss mb gb")
_NEGATED = _set("neg negative negated minus inverse")
_COUNTS = _set(
    """
    step steps epoch epochs iter iters iteration iterations n num count counts samples rows tokens
    params parameters seed version id index rank batch fold started finished timestamp
    """
)
_TRAIN = _set("train training trn fit insample")
VALIDATION = _set("val valid validation dev eval cv oof")
_TEST = _set("test tst holdout heldout unseen")
_DATA = _set(
    """
    data dataset datasets prepare prep preprocess preprocessing preparation split splits splitting
    download ingest ingestion fetch extract load loader loaders sample sampling corpus tokenize label
    labels annotate
    """
)
_EVALUATION = _set(
    """
    eval evaluate evaluation evaluator evaluators metric metrics score scorer scoring bench benchmark
    benchmarks test tests testing grade grader harness judge validate validation validator check checks
    verify report compare measure
    """
)
_WORK = _set(
    """
    train training trainer fit model models build compile optimize optimise learn tune solve search run
    feature features featurize featurization
    """
)
_SPLITS = _set("fold folds split splits")
# Groups of parameters that hold no setting of the work, whatever their stages are called.
_FIXED_GROUPS = _SPLITS | _set(
    """
    data dataset datasets prepare prep preprocess preprocessing preparation download ingest eval
    evaluate evaluation evaluator metrics test validate validation bench benchmark
    """
)
_SEEDS = _set("randomstate rng seed seeds")
_COSTLY = _set(
    """
    epoch epochs step steps iter iters iteration iterations round rounds est estimators trees depth
    layer layers width hidden dim dims units heads neurons filters channels rank size budget ensemble
    members beam samples
    """
)


class Role(StrEnum):
    """What a stage or a file is for."""

    WORK = "work"
    DATA = "data"
    EVALUATION = "evaluation"


class Split(StrEnum):
    """Which data a metric was measured on, the best to judge by first."""

    VALIDATION = "validation"
    TEST = "test"
    UNSAID = "unsaid"
    TRAIN = "train"


def words(name: str) -> list[str]:
    """The words of a name in small letters, without digits: of `val/rocAuc_50`, val, roc and auc."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name.replace("mAP", "map"))
    return [word.lower() for word in re.findall(r"[A-Za-z]+", re.sub(r"(?<=[a-z])(?=[A-Z]{2})", "_", parts))]


def direction(name: str) -> str | None:
    """`minimize` or `maximize`, by the last word of a metric's name that says it; None where none does."""
    found = words(name.rpartition(":")[2])
    if "per" in found[1:-1]:
        at = len(found) - 1 - found[::-1].index("per")
        before, after = found[:at], found[at + 1 :]
        if set(after) & _TIME and not set(before) & {*_TIME, *_LESS}:
            return "maximize"  # tokens per second
        found = before
    known = [word for word in found if word not in _WEAK] or found
    for place in range(len(known) - 1, -1, -1):
        word = known[place]
        more = word in _MORE
        if more or word in _LESS or word in _TIME or word in _MEMORY:
            if any(sign in known[:place] for sign in _NEGATED):
                more = not more and word in _LESS
            return "maximize" if more else "minimize"
    return None


def is_spend(name: str) -> bool:
    """Whether a metric is time or memory, and no rate of either."""
    return direction(name) == "minimize" and not {*_TIME, *_MEMORY}.isdisjoint(words(name.rpartition(":")[2]))


def is_time(name: str) -> bool:
    """Whether it tells how long a run takes, or how much it does in a time."""
    found = words(name.rpartition(":")[2])
    rates = {"throughput", "speed", "fps", "qps", "tps", "rps", "mfu", "cycles", "instructions"}
    return not {*_TIME, *rates}.isdisjoint(found)


def is_count(name: str) -> bool:
    """Whether it counts what a run did, not how well."""
    return direction(name) is None and not _COUNTS.isdisjoint(words(name.rpartition(":")[2]))


def split(name: str) -> Split:
    """Which data a metric is of, by its whole name."""
    found = set(words(name.rpartition(":")[2]))
    for known, signs in ((Split.TRAIN, _TRAIN), (Split.TEST, _TEST), (Split.VALIDATION, VALIDATION)):
        if found & set(signs):
            return known
    return Split.UNSAID


def rank(name: str) -> tuple[bool, bool, bool, int]:
    """How likely a metric is the objective; the least is the likeliest: a quality on validation data, then on
    test data, then any, then what comes first."""
    aside = is_spend(name) or is_count(name)
    of = split(name)
    return aside, of is Split.TRAIN, direction(name) is None, list(Split).index(of)


def likeliest(names: Iterable[str]) -> list[str]:
    """Of the names of metrics those that are likeliest the objective, all of them as likely."""
    ranks = {name: rank(name) for name in names}
    return [name for name, of in ranks.items() if of == min(ranks.values())]


def role(names: Iterable[str]) -> Role:
    """What a stage or a file is for, by the names of it: the first that says so."""
    for name in names:
        found = set(words(name))
        if found & _SPLITS:
            return Role.DATA
        if found & _WORK:
            return Role.WORK
        if found & _EVALUATION:
            return Role.EVALUATION
        if found & _DATA:
            return Role.DATA
    return Role.WORK


def is_seed(key: str) -> bool:
    """Whether a parameter's last name says that it is a seed: `seed`, `random_state`, `trainSeed`."""
    found = words(key.rpartition(":")[2].rpartition(".")[2])
    return not _SEEDS.isdisjoint([*found, "".join(found)])


def is_of_data(key: str) -> bool:
    """Whether a group that a parameter lies in, or its name, is that of data or of the evaluation."""
    *groups, last = key.rpartition(":")[2].split(".")
    own, bounds = set(words(last)), _set("min max")  # a tree's min_split is none of the data
    fixed = own & (_SPLITS | VALIDATION | _TEST) and not own & bounds
    return bool(fixed) or any(not _FIXED_GROUPS.isdisjoint(words(group)) for group in groups)


def costs_time(key: str) -> bool:
    """Whether a parameter's name says that more of it takes longer."""
    return not _COSTLY.isdisjoint(words(key.rpartition(":")[2].rpartition(".")[2]))
