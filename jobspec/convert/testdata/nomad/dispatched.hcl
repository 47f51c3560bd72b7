# Converted from dispatched. Comments say what a person has to decide.

job "report" {
  type = "batch"

  parameterized {
    meta_required = ["day_of_week"]
    meta_optional = ["DAY", "size"]
  }

  task "report" {
    image = "report:1"
    args  = ["${CUBE_META_size}", "${CUBE_META_size}", "$${NOMAD_META_other}"]

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }

    # the payload is not in local/: CUBE_PAYLOAD_FILE says where it is; read it there: ${CUBE_PAYLOAD_FILE} stands
    # for it in args and env
    dispatch_payload {
      file = "in.json"
    }
  }
}
