import torch

from snn_datasets.corruption import Corruption


def test_nothing_is_changed_by_default():
    image, wave = torch.rand(3, 8, 10), torch.randn(500)
    assert torch.equal(Corruption().image(image, "a"), image)
    assert torch.equal(Corruption().waveform(wave, "a"), wave)


def test_a_sample_gets_the_same_noise_every_time_and_another_sample_other_noise():
    image, wave = torch.full((1, 8, 10), 0.5), torch.ones(500)
    hard = Corruption(image_noise=0.3, image_occlusion=4, audio_snr=5.0)
    for change, x in ((hard.image, image), (hard.waveform, wave)):
        assert torch.equal(change(x, "a"), change(x, "a"))
        assert not torch.equal(change(x, "a"), change(x, "b"))
    assert not torch.equal(Corruption(audio_snr=5.0, seed=1).waveform(wave, "a"), hard.waveform(wave, "a"))


def test_the_square_is_black_of_its_size_and_inside():
    seen = set()
    for sample in range(60):
        image = Corruption(image_occlusion=4).image(torch.ones(3, 8, 10), str(sample))
        rows, columns = (image[0] == 0).nonzero().unbind(1)
        assert (image == 0).sum() == 3 * 16
        assert rows.max() - rows.min() == columns.max() - columns.min() == 3
        seen.add((int(rows.min()), int(columns.min())))
    assert len(seen) > 20
    assert max(top for top, _ in seen) == 4
    assert max(left for _, left in seen) == 6


def test_noise_has_the_power_asked_for():
    wave = torch.sin(torch.arange(40_000) / 7)
    noise = Corruption(audio_snr=5.0).waveform(wave, "a") - wave
    decibels = 10 * torch.log10(wave.square().mean() / noise.square().mean())
    torch.testing.assert_close(decibels, torch.tensor(5.0), rtol=0, atol=0.1)
    image = Corruption(image_noise=0.1).image(torch.full((1, 200, 200), 0.5), "a")
    torch.testing.assert_close(image.std(), torch.tensor(0.1), rtol=0, atol=0.003)


def test_pixels_stay_in_range_and_silence_stays_silent():
    image = Corruption(image_noise=5.0).image(torch.rand(1, 9, 9), "a")
    assert image.min() == 0
    assert image.max() == 1
    assert not Corruption(audio_snr=5.0).waveform(torch.zeros(100), "a").any()
