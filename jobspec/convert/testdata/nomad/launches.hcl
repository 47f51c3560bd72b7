# Converted from launches. Comments say what a person has to decide.

job "report" {
  type = "batch"

  periodic {
    crons            = ["30 2 * * *", "15 3 * * *", "@daily"]
    time_zone        = "Europe/Berlin"
    prohibit_overlap = true
  }

  task "report" {
    image = "report:1"
    args  = ["$${NOMAD_META_DAY}"]

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }
}
