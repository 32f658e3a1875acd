"""`hitpro_jax.data.hitsz_vcm`: the reader under the name that others use."""

from hitpro_jax.data import hitsz_vcm
from hitpro_jax.data.sets import hitsz_vcm as reader


def test_load_is_that_of_the_data_set():
    assert hitsz_vcm.load is reader.load
    assert hitsz_vcm.__all__ == ["load"]


def test_it_reads_the_twin(twins):
    dataset = hitsz_vcm.load(str(twins / "HITSZ-VCM"), check_counts=False)
    assert dataset.name == "HITSZ-VCM"
    assert dataset.train
