"""Chat templates with the idioms of published ones, shortened and in other words."""

_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_HEADERS = (
    "{%- for message in messages %}{{- '<|header|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|header|>assistant<|end|>\\n\\n' }}{%- endif %}"
)

PUBLISHED = {
    "ChatML": _CHATML,
    "Zephyr": "{% for m in messages %}\n{% if m.role == 'user' %}\n{{ '<|user|>\n' + m.content + eos_token }}\n"
    "{% elif m.role == 'assistant' %}\n{{ '<|assistant|>\n' + m.content + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "Gemma, which rejects system messages and strips": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('no system role') }}{% endif %}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles alternate') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "Qwen2.5, with a default system message": "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- if tools %}{{- tools | tojson }}{%- endif %}{%- for message in messages %}"
    "{%- if message.role == 'user' or (message.role == 'system' and not loop.first) or message.role == 'assistant' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
    "Qwen3, which moves the reasoning of an answer": "{%- set ns = namespace(last=true, index=messages|length - 1) %}"
    "{%- for message in messages[::-1] %}{%- set at = (messages|length - 1) - loop.index0 %}"
    "{%- if ns.last and message.role == 'user' and not (message.content.startswith('<tool_response>') "
    "and message.content.endswith('</tool_response>')) %}{%- set ns.last = false %}{%- set ns.index = at %}"
    "{%- endif %}{%- endfor %}{%- for message in messages %}{%- set content = message.content %}"
    "{%- if message.role == 'user' %}{{- '<|im_start|>user\\n' + content + '<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}{%- set thought = '' %}{%- if '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{%- if loop.index0 > ns.index %}"
    "{{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}"
    "{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}",
    "DeepSeek, which leaves the reasoning out": "{% if not add_generation_prompt is defined %}"
    "{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(system='') %}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set ns.system = m['content'] %}{% endif %}{% endfor %}"
    "{{ bos_token }}{{ ns.system }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{% set content = m['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<|Assistant|>' + content + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}",
    "Llama 3.1, with the date": "{{- bos_token }}{%- if not date_string is defined %}"
    "{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    "{{- '<|header|>system<|end|>\\n\\nCutting Knowledge Date: December 2023\\n' }}"
    "{{- 'Today Date: ' + date_string + '\\n\\n' }}{{- system_message + '<|turn|>' }}" + _HEADERS,
    "Mistral Small, with the date in a default": "{%- set today = strftime_now('%Y-%m-%d') %}"
    "{%- set default_system_message = 'The current date is ' + today + '.\\n\\nAsk if a question is not clear.' %}"
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- if messages[0]['content'] is string %}"
    "{%- set system_message = messages[0]['content'] %}{%- else %}"
    "{%- set system_message = messages[0]['content'][0]['text'] %}{%- endif %}{%- set loop_messages = messages[1:] %}"
    "{%- else %}{%- set system_message = default_system_message %}{%- set loop_messages = messages %}{%- endif %}"
    "{%- if system_message is defined %}{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{%- endif %}"
    "{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
    "{%- if message['content'] is string %}{{- '[INST]' + message['content'] + '[/INST]' }}{%- else %}{{- '[INST]' }}"
    "{%- for block in message['content'] %}{%- if block['type'] == 'text' %}{{- block['text'] }}{%- endif %}"
    "{%- endfor %}{{- '[/INST]' }}{%- endif %}{%- elif message['role'] == 'assistant' %}"
    "{{- message['content'] + eos_token }}{%- endif %}{%- endfor %}",
    "SmolLM3, with the date in the middle": "{%- set mode = '/think' %}{%- if messages[0].role == 'system' %}"
    "{%- set system_message = messages[0].content %}{%- if '/no_think' in system_message %}"
    "{%- set mode = '/no_think' %}{%- endif %}{%- endif %}{{- '<|im_start|>system\\n' -}}"
    "{%- set today = strftime_now('%d %B %Y') -%}{{- 'Today Date: ' ~ today ~ '\\nReasoning Mode: ' + mode + '\\n' }}"
    "{%- if system_message %}{{- system_message.replace('/no_think', '').rstrip() }}{%- endif %}{{- '<|im_end|>\\n' }}"
    + _CHATML,
    "gpt-oss, with the date in a macro": "{%- macro build_system_message() -%}{%- if model_identity is not defined %}"
    "{%- set model_identity = 'You are a large language model.' %}{%- endif %}{{- model_identity + '\\n' }}"
    "{{- 'Current date: ' + strftime_now('%Y-%m-%d') + '\\n\\n' }}{%- if reasoning_effort is not defined %}"
    "{%- set reasoning_effort = 'medium' %}{%- endif %}{{- 'Reasoning: ' + reasoning_effort }}{%- endmacro -%}"
    "{{- '<|start|>system<|message|>' }}{{- build_system_message() }}{{- '<|end|>' }}{%- for message in messages -%}"
    "{{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}",
    "Granite, with the date in a sum": "{%- if messages[0]['role'] == 'system' %}"
    "{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}{%- else %}"
    '{%- set system_message = "Today\'s Date: " + strftime_now("%B %d, %Y") + ".\\nYou are Granite." %}'
    "{%- if tools and documents %}{%- set system_message = system_message + ' Use the tools.' %}"
    "{%- elif thinking %}{%- set system_message = system_message + ' Think first.' %}{%- endif %}"
    "{%- set loop_messages = messages %}{%- endif %}{{- '<|role|>system<|end|>' + system_message + '<|text_end|>\\n' }}"
    "{%- for message in loop_messages %}{{- '<|role|>' + message['role'] + '<|end|>' + message['content'] }}"
    "{%- if loop.last and add_generation_prompt %}{{- '<|role|>assistant<|end|>' }}{%- endif %}{%- endfor %}",
    "LFM2, with the date in a namespace": "{{- bos_token -}}{%- set ns = namespace(system_prompt='') -%}"
    "{%- if messages[0].role == 'system' -%}{%- set ns.system_prompt = messages[0].content -%}"
    "{%- set messages = messages[1:] -%}{%- endif -%}{%- if tools -%}{%- set ns.system_prompt = ns.system_prompt + "
    "('\\n\\n' if ns.system_prompt else '') + 'Today: ' + strftime_now('%Y-%m-%d') + (tools | tojson) -%}{%- endif -%}"
    "{%- if ns.system_prompt -%}{{- '<|im_start|>system\\n' + ns.system_prompt + '<|im_end|>\\n' -}}{%- endif -%}"
    + _CHATML,
    "Command R, without the date": "{{ bos_token }}{% if messages and messages[0]['role'] | lower == 'system' %}"
    "{% set preamble = messages[0]['content'] %}{% endif %}<|SYSTEM|># System Preamble\nAnswer politely."
    "{% if preamble %}\n\n{{ preamble }}{% endif %}{% for message in messages %}"
    "{% if message.role | lower == 'system' and not (loop.first and preamble) %}<|SYSTEM|>{{ message.content }}"
    "{% elif message.role | lower == 'user' %}<|USER|>{{ message.content }}<|END|>{% if documents %}{{ documents }}"
    "{% endif %}{% elif message.role | lower == 'assistant' %}<|CHATBOT|>{{ message.content }}<|END|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|CHATBOT|>{% endif %}",
}
