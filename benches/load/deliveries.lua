-- Makes wrk send the deliveries of a file in turn. Each line is a token, a space and the body.
local requests, turn = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local token, body = line:match("^(%S+) (.*)$")
    local headers = { ["Upstash-Signature"] = token, ["Content-Type"] = "text/plain" }
    requests[#requests + 1] = wrk.format("POST", "/webhook", headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
