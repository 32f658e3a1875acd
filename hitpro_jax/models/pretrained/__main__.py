"""`python -m hitpro_jax.models.pretrained SOURCE OUT`: public weights to the project's own file."""

from hitpro_jax.models.pretrained.convert import main

if __name__ == "__main__":
    main()
