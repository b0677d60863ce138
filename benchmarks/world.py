"""How good the world's models are: python benchmarks/world.py --quality [--prompts 200] [--json FILE].

tagger   macro F1 over all tags, on renders of 2,000 scenes that nothing was taught with.
painter  the tags of 200 more such scenes are its prompts; printed is the share of prompted tags that the
         tagger finds in its pictures. The ceiling is the share found in the renders of those scenes; the
         floor is the share found in pictures that were painted for another prompt.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

F1_TO_REACH, FOUND_TO_REACH = 0.90, 0.85
SCALE, STEPS = 4.0, 25  # of guidance, and of DDIM


def judge_tagger(folder: Path, cache: Path) -> dict:
    """Macro F1 on held-out renders, and the tags it is worst at."""
    from sample_data.mini import judge
    from sample_data.mini.scenes import HELD, scenes

    held = scenes(HELD, cache)
    table = judge.scores(held.pictures, folder)
    each = judge.f1(table, held.tags)
    best = judge.best_threshold(table, held.tags)
    return {
        "scenes": len(held.pictures),
        "macro_f1": judge.macro(each),
        "best_threshold": best,
        "macro_f1_at_best": judge.macro(judge.f1(table, held.tags, best)),
        "worst": dict(sorted(each.items(), key=lambda pair: pair[1])[:8]),
    }


def judge_painter(folder: Path, tagger: Path, cache: Path, count: int) -> dict:
    """The share of prompted tags found in painted pictures, between floor and ceiling."""
    import numpy as np

    from sample_data.mini import judge
    from sample_data.mini.painter import paintings
    from sample_data.mini.scenes import HELD, NAMES, scenes

    held = scenes(HELD[:count], cache)
    prompts = [", ".join(NAMES[at] for at in row.nonzero()[0] if at in judge.JUDGED) for row in held.tags]
    begin = time.monotonic()
    painted = list(paintings(folder, prompts, SCALE, STEPS))
    seconds = time.monotonic() - begin
    table = judge.scores(painted, tagger)
    by_tag = judge.shares_by_tag(table, held.tags)
    return {
        "prompts": count,
        "found": judge.share_found(table, held.tags),
        "ceiling": judge.share_found(judge.scores(held.pictures, tagger), held.tags),
        "floor": judge.share_found(np.roll(table, 1, 0), held.tags),
        "seconds_a_picture": seconds / count,
        "least_followed": dict(sorted(by_tag.items(), key=lambda pair: pair[1])[:12]),
    }


def show(figures: dict) -> None:
    """The table."""
    tagger, painter = figures["tagger"], figures["painter"]
    print(f"mini-tagger, macro F1 on {tagger['scenes']:,} held-out renders")
    print(f"  at threshold 0.5    {tagger['macro_f1']:.3f}; to reach: {F1_TO_REACH}")
    print(f"  at threshold {tagger['best_threshold']:<7}{tagger['macro_f1_at_best']:.3f}, the best")
    print(f"  worst: {', '.join(f'{name} {value:.2f}' for name, value in tagger['worst'].items())}")
    print(f"mini-diffusion, share of prompted tags found, {painter['prompts']} held-out prompts")
    print(f"  painted pictures    {painter['found']:.3f}; to reach: {FOUND_TO_REACH}")
    print(f"  renders, the most   {painter['ceiling']:.3f}")
    print(f"  other prompts'      {painter['floor']:.3f}, by chance")
    print(f"  least followed: {', '.join(f'{name} {value:.2f}' for name, value in painter['least_followed'].items())}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", action="store_true", help="judge tagger and painter")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tagger", type=Path, help="folder of another tagger")
    parser.add_argument("--painter", type=Path, help="folder of another painter")
    parser.add_argument("--cache", type=Path, help="folder of painted scenes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    if not given.quality:
        parser.error("nothing to measure: give --quality")
    import torch

    from sample_data.mini import judge
    from sample_data.mini.scenes import CACHE

    torch.set_num_threads(given.threads)
    tagger, cache = given.tagger or judge.TAGGER, given.cache or CACHE
    figures = {
        "tagger": judge_tagger(tagger, cache),
        "painter": judge_painter(given.painter or judge.PAINTER, tagger, cache, given.prompts),
    }
    show(figures)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
