from examples.arranged_chain import main


def test_what_every_call_says_is_read_once_the_chain_is_arranged():
    read = main()

    assert read["as it is"] == [0, 0, 0]
    assert read["arranged"][0] == 0
    assert min(read["arranged"][1:]) > 1_400
