"""A campaign's workers on a Ray cluster, which places and watches them."""
