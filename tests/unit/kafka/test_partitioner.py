"""Where a key lies: the vectors of Kafka's own test of `Utils.murmur2` (org.apache.kafka.common.utils.UtilsTest)."""

import pytest

from services.runtime.kafka.partitioner import murmur2, partition_of

JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA.items())
def test_the_hash_is_javas(key: bytes, signed: int):
    assert murmur2(key) == signed % 2**32


def test_the_partition_is_of_the_hash_without_its_sign():
    assert partition_of(b"foobar", 6) == (-790332482 & 0x7FFFFFFF) % 6
