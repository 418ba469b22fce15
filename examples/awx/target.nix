# Where the machine is.
{
  network.description = "A first network";

  target =
    { ... }:
    {
      deployment.targetHost = "target.example.org";
    };
}
