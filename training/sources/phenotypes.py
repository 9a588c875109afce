"""The 25 phenotypes of Harutyunyan et al. 2019 (Scientific Data 6:96) as ICD-9-CM prefixes.

Each is one category of AHRQ's Clinical Classifications Software, single level, 2015 (public domain; the number beside
it). Written as the shortest prefixes that pick exactly the category's codes out of all that the classification lists;
a prefix that ends in `=` is that code alone. Codes without the point, as MIMIC-III has them.
"""

from collections.abc import Iterable

_PREFIXES: dict[str, str] = {
    "acute-renal-failure": "584 586",  # 157
    "acute-cerebrovascular-disease": "3466 430 431 432 43301 43311 43321 43331 43381 43391 434 436",  # 109
    "acute-myocardial-infarction": "410",  # 100
    "cardiac-dysrhythmias": "4270 4271 4272 4273 4276 4278 4279 7850 7851",  # 106
    "chronic-kidney-disease": "585 7925 V420 V451 V56",  # 158
    "copd-and-bronchiectasis": "490 491 492 494 496",  # 127
    "complications-of-care": (  # 238
        "27661 27783 27788 2853 28741 3490 3491 34931 41511 4294 4582 5121 5122 5187 5190 53086 53087 5364 539 "
        "5642 5643 5644 56962 5696= 5697 5793 59681 78062 78063 78066 9093 99524 9954 99586 997 998 9990 9991 "
        "9992 99934 99939 9993= 9994 9995 9996 9997 9998 9999 V1553 V1580 V1583 V900"
    ),
    "conduction-disorders": "426 V450 V533",  # 105
    "congestive-heart-failure": "39891 428",  # 108
    "coronary-atherosclerosis": "411 412 413 41400 41401 41406 4140= 4142 4143 4144 4148 4149 V4581 V4582",  # 101
    "diabetes-mellitus-with-complications": (  # 50
        "24901 2491 2492 2493 2494 2495 2496 2497 2498 2499 25002 25003 2501 2502 2503 2504 2505 2506 2507 2508 2509"
    ),
    "diabetes-mellitus-without-complication": "24900 25000 25001 7902 7915 7916 V4585 V5391 V6546",  # 49
    "lipid-disorders": "2720 2721 2722 2723 2724",  # 53
    "essential-hypertension": "4011 4019",  # 98
    "fluid-and-electrolyte-disorders": "2760 2761 2762 2763 2764 2765 27669 2766= 2767 2768 2769 9951",  # 55
    "gastrointestinal-hemorrhage": (  # 153
        "4560 45620 5307 53082 5310 5312 5314 5316 5320 5322 5324 5326 5330 5332 5334 5336 5340 5342 5344 5346 5693 578"
    ),
    "hypertension-with-complications": "4010 402 403 404 405 4372",  # 99
    "other-liver-diseases": (  # 151
        "570 5715 5716 5718 5719 572 5730 5734 5735 5738 5739 7824 7891 78959 7895= 7904 7905 7948 V427"
    ),
    "other-lower-respiratory-disease": (  # 133
        "5131 514 515 516 5172 5178 5183 5184 51889 5194 5198 5199 7825 7860 7862 7863 7864 78652 7866 7867 7868 "
        "7869 7931 7942 V126 V426"
    ),
    "other-upper-respiratory-disease": (  # 134
        "470 471 472 476 4770 4772 4778 4779 478 5191 5192 5193 7841 7844 7847 7848 78499 7849= 7861 V414 V440 V550"
    ),
    "pleurisy-pneumothorax-collapse": "510 5110 5111 51189 5118= 5119 5120 5128 5180 5181 5182",  # 130
    "pneumonia": (  # 122
        "00322 0203 0204 0205 0212 0221 0310 0391 0521 0551 0730 0830 1124 1140 1144 1145 11505 11515 11595 1304 "
        "1363 480 481 482 483 484 485 486 5130 5171"
    ),
    "respiratory-failure": "5173 5185 51881 51882 51883 51884 7991 V461 V462",  # 131
    "septicemia": "0031 0202 0223 0362 038 0545 449 77181 7907 99591 99592",  # 2
    "shock": "7855",  # 249
}
PHENOTYPES = tuple(_PREFIXES)

_PREFIXES_OF = {name: tuple(p for p in text.split() if p[-1] != "=") for name, text in _PREFIXES.items()}
_CODES_OF = {name: frozenset(p[:-1] for p in text.split() if p[-1] == "=") for name, text in _PREFIXES.items()}


def phenotypes(icd9: Iterable[str]) -> frozenset[str]:
    """Which of `PHENOTYPES` a hospital stay's diagnoses make."""
    codes = set(icd9)
    return frozenset(
        name
        for name in PHENOTYPES
        if not codes.isdisjoint(_CODES_OF[name]) or any(code.startswith(_PREFIXES_OF[name]) for code in codes)
    )
