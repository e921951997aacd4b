"""Exposure bias: in training a decoder is fed the truth, in use its own words. Scheduled sampling feeds it some of
these in training already, more and more of them. Bengio et al. (2015), arXiv:1506.03099.

python examples/exposure_bias.py        pronunciation with 0, 10 and 25 % of its own phonemes in the last epoch: twenty
                                        minutes on two cores, and a table
"""

import sys

import pronunciation


def main(minutes=5, shares=(0.0, 0.1, 0.25), folder="runs/pronunciation", **changes):
    found = {}
    for share in shares:
        print(f"---- {share:.0%} of its own phonemes in the last epoch")
        found[share] = pronunciation.main(minutes, share, folder, **changes)
    print(f"{'own phonemes':>14}{'wrong phonemes':>18}{'wrong words':>15}")
    for share, scores in found.items():
        print(f"{share:>14.0%}{scores['token error rate']:>18.2%}{1 - scores['accuracy']:>15.2%}")
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
