"""Under which terms the known corpora may be used, as their publishers state them."""

LICENCES = {
    "ravdess": "CC BY-NC-SA 4.0, non-commercial",
    "emodb": "free for research",
    "nemo": "CC BY-NC-SA 4.0, non-commercial",
    "crema_d": "Open Database License",
    "tess": "CC BY-NC-ND 4.0, non-commercial",
    "iemocap": "by agreement with USC, research",
    "msp_podcast": "by agreement with UT Dallas",
    "meld": "GPL-3.0, taken from a television series",
}
