# Converted from ending. Comments say what a person has to decide.

job "shop" {
  task "web" {
    image = "shop/web:1"

    # memory: 128 MiB, a limit, unless it is given here
    resources {}
  }
}
