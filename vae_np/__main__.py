"""`python -m vae_np` is the command `vae-np`."""

from vae_np.cli import main

if __name__ == "__main__":
    main()
