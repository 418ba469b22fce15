# Where the machine is.
{
  network.description = "A first network";

  target =
    { ... }:
    {
      deployment.targetHost = "198.18.249.10";
    };
}
