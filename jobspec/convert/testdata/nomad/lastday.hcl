# Converted from lastday. Comments say what a person has to decide.

job "report" {
  type = "batch"

  task "report" {
    image = "report:1"

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }
}
