from zsfuse_ray.benchmark.figures import Figure, extrapolated, number, page


def test_median_not_mean():
    figure = Figure("something", (9.0, 1.0, 2.0), "s")
    assert figure.median == 2
    assert Figure("something", (4.0, 1.0, 2.0, 3.0), "s").median == 2.5
    assert figure.about()["values"] == [9.0, 1.0, 2.0]


def test_numbers_have_three_digits():
    assert [number(x) for x in (0, 0.012345, 1.234, 56.78, 999.6, 1234567.8)] == [
        *("0", "0.0123", "1.23", "56.8", "1,000", "1,234,568"),
    ]


def test_extrapolation_equals_trying_all_one_by_one():
    audio_of_clip, text_s, scoring_s, n_sample, n_clips, n_configurations = 0.5, 0.25, 0.125, 4, 12, 5
    naive = kept = 0.0
    for _ in range(n_configurations):
        for _ in range(n_clips):
            naive += audio_of_clip
        naive += text_s + scoring_s
        kept += scoring_s
    found = extrapolated(audio_of_clip * n_sample, text_s, scoring_s, n_configurations, n_clips / n_sample, 1)
    assert found == (naive, kept)
    halved = extrapolated(0.0, 0.0, scoring_s, n_configurations, 3.0, 2)
    assert halved == (kept / 2, kept / 2)


def test_page_has_one_row_per_figure():
    figures = [Figure("fast", (3.0, 1.0, 2.0), "×", "why"), Figure("slow", (1500.0,), "s")]
    result = {
        "machine": {"cores": 2, "cpu": "a chip", "gpu": None, "load": 0.5},
        "versions": {"ray": "2", "torch": "3"},
        "models": ["dual:x", "classifier:y"],
        "figures": {"decode": [figure.about() for figure in figures]},
    }
    lines = page(result).splitlines()
    assert lines[0] == "2 cores of a chip, no GPU, load 0.5 at the start; ray 2, torch 3"
    assert lines[1] == "models: dual:x, classifier:y"
    assert lines[-2:] == [
        "| decode | fast | 2 × | 1 to 3 | why |",
        "| decode | slow | 1,500 s | once |  |",
    ]
